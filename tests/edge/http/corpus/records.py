"""The records of the corpus, read from the text files beside this module. The format is told in README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
_ESCAPE = re.compile(r"\\(?:([rnt\\])|x([0-9a-f]{2})|\(((?:[^*\\]|\\[rnt\\]|\\x[0-9a-f]{2})+)\*([0-9]+)\))")
_PLAIN = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
_SAYS = re.compile(r"(?:(?:9110|9112|3986|6265) [0-9.]+|house): .+")


@dataclass
class Record:
    """`verdict`: its words. `expected`: lines behind an accept, by their first word."""

    name: str
    says: str = ""
    raw: bytes = b""
    verdict: tuple[str, ...] = ()
    method: bytes = b"GET"
    closed: bool = False
    expected: dict[str, list[str]] = field(default_factory=dict)

    def one(self, key: str) -> bytes | None:
        lines = self.expected.get(key)
        return None if lines is None else octets(lines[0])


def octets(text: str) -> bytes:
    """Turn escaped text into bytes. Raises ValueError for what is no escape."""
    parts: list[bytes] = []
    at = 0
    while at < len(text):
        if text[at] != "\\":
            end = text.find("\\", at)
            end = len(text) if end < 0 else end
            parts.append(text[at:end].encode("ascii"))
            at = end
            continue
        match = _ESCAPE.match(text, at)
        if match is None:
            raise ValueError(f"no escape: {text[at : at + 12]}")
        plain, code, repeated, times = match.groups()
        if plain:
            parts.append(_PLAIN[plain])
        elif code:
            parts.append(bytes((int(code, 16),)))
        else:
            parts.append(octets(repeated) * int(times))
        at = match.end()
    return b"".join(parts)


def read(path: Path) -> Iterator[Record]:
    """Give the records of one file. Raises ValueError, naming the line, for what is no record."""
    record: Record | None = None
    for number, line in enumerate(path.read_text("ascii").splitlines(), 1):
        try:
            if line != line.rstrip():
                raise ValueError("a blank at the end of a line")
            if line.startswith("== "):
                if record is not None:
                    yield _whole(record)
                record = Record(line[3:])
            elif line and not line.startswith("#"):
                if record is None:
                    raise ValueError("a line before the first record")
                _take(record, line)
        except ValueError as error:
            raise ValueError(f"{path.name}:{number}: {error}") from error
    if record is not None:
        yield _whole(record)


def _take(record: Record, line: str) -> None:
    word, _, rest = line.partition(" ")
    if not record.says:
        if not _SAYS.fullmatch(line):
            raise ValueError(f"no RFC and section: {line}")
        record.says = line
    elif word == ">":
        record.raw += octets(rest)
    elif word == "to":
        record.method = rest.encode()
    elif line == "closed":
        record.closed = True
    elif word in ("accept", "refuse", "wait") and not record.verdict:
        record.verdict = tuple(line.split(" "))
    elif (
        word in ("body", "left", "path", "query", "reason", "trailers", "field", "no-field", "then") and record.verdict
    ):
        record.expected.setdefault(word, []).append(rest)
    else:
        raise ValueError(f"not understood: {line}")


def _whole(record: Record) -> Record:
    if not record.says or not record.verdict:
        raise ValueError(f"{record.name} is not complete")
    return record


def requests() -> list[Record]:
    return [record for path in sorted(HERE.glob("requests-*.txt")) for record in read(path)]


def responses() -> list[Record]:
    return [record for path in sorted(HERE.glob("responses-*.txt")) for record in read(path)]
