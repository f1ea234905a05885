"""The grammar of a route's path pattern, and the order in which patterns win.

    pattern  = "/" [ segment *( "/" segment ) ]
    segment  = literal | "{" name "}" | "*"      ("*" only as the last segment)
    literal  = 1*( unreserved | sub-delims | ":" | "@" | pct-encoded )      RFC 3986 section 3.3
    name     = ( ALPHA | "_" ) *( ALPHA | DIGIT | "_" )

In:    the pattern as a tenant wrote it.
Out:   Pattern: its segments and its rank; normalise_path for what it is compared with.
Laws:  1. `{name}` is exactly one non-empty segment; a final `*` is the rest: zero or more segments.
       2. A pattern and a path are compared after the same normalisation.
Not here: compiling many patterns into one matcher (edge.snapshot).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from contracts.bounds import PATTERN_CHARS_MAX, PATTERN_SEGMENTS_MAX

_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=:@]|%[0-9A-Fa-f]{2})+")
_CAPTURE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# RFC 3986 section 3.3 pchar plus "/", less what law and safety refuse: controls, space, backslash, DEL, non-ASCII.
_PATH_BYTES: Final = re.compile(rb"/[!$%&'()*+,\-./0-9:;=@A-Z_a-z~\[\]{}|^`\"<>]*")
# Sent raw by some clients, though RFC 3986 wants them encoded: one form only goes on.
_RAW: Final = re.compile(rb"[\[\]{}|^`\"<>]")
# A dot segment with a path parameter: we see a name, servlet containers drop the parameter and go up.
_DOT_PARAMETER: Final = re.compile(rb"/\.{1,2};")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class PatternError(ValueError):
    """The pattern breaks the grammar; the message says where, for the person who wrote it."""


class PathError(ValueError):
    """The request path is refused; the message is safe to show."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Capture:
    name: str


@dataclass(frozen=True, slots=True)
class Rest:
    """The final `*`."""


Segment = Literal | Capture | Rest


@dataclass(frozen=True, slots=True)
class Pattern:
    text: str
    segments: tuple[Segment, ...]

    @property
    def literals(self) -> int:
        return sum(isinstance(segment, Literal) for segment in self.segments)

    @property
    def has_rest(self) -> bool:
        return bool(self.segments) and isinstance(self.segments[-1], Rest)

    @property
    def captures(self) -> tuple[str, ...]:
        return tuple(segment.name for segment in self.segments if isinstance(segment, Capture))

    def rank(self, priority: int, position: int) -> tuple[int, int, int, bool, int]:
        """Order of precedence, smallest first: priority, literal segments, length, exact before rest, older first."""
        return (-priority, -self.literals, -len(self.segments), self.has_rest, position)


def parse_pattern(text: str) -> Pattern:
    """Parse and normalise a path pattern. Raises PatternError, naming what is wrong."""
    if not text.startswith("/"):
        raise PatternError("must start with '/'")
    if len(text) > PATTERN_CHARS_MAX:
        raise PatternError(f"must be at most {PATTERN_CHARS_MAX} characters")
    parts = text[1:].split("/")
    if len(parts) > PATTERN_SEGMENTS_MAX:
        raise PatternError(f"must have at most {PATTERN_SEGMENTS_MAX} segments")
    segments: list[Segment] = []
    names: set[str] = set()
    for index, part in enumerate(parts):
        segments.append(_segment(part, index == len(parts) - 1))
        if isinstance(segments[-1], Capture):
            name = segments[-1].name
            if name in names:
                raise PatternError(f"captures '{{{name}}}' twice")
            names.add(name)
    return Pattern("/" + "/".join(_text(segment) for segment in segments), tuple(segments))


def _segment(part: str, is_last: bool) -> Segment:
    if part == "*":
        if not is_last:
            raise PatternError("'*' may only be the last segment")
        return Rest()
    capture = _CAPTURE.fullmatch(part)
    if capture:
        return Capture(capture[1])
    if part == "" and is_last:
        return Literal("")  # "/" alone, or a trailing slash, which is significant
    if part in (".", ".."):
        raise PatternError("must not contain '.' or '..' segments")
    if "*" in part:
        raise PatternError("'*' must stand alone as the last segment")
    if "{" in part or "}" in part:
        raise PatternError(f"segment '{part}' is not a capture: write {{name}} as a whole segment")
    if part and not _LITERAL.fullmatch(part):
        raise PatternError(f"segment '{part}' has characters that must be percent-encoded")
    try:
        literal = normalise_path(b"/" + part.encode("ascii"))[1:].decode("ascii")
    except PathError as error:
        raise PatternError(str(error)) from None
    return Literal(literal)


def _text(segment: Segment) -> str:
    if isinstance(segment, Literal):
        return segment.text
    return "{" + segment.name + "}" if isinstance(segment, Capture) else "*"


def normalise_path(path: bytes, allow_encoded_slash: bool = False) -> bytes:
    """Give the one form of a path that is matched, limited, cached and forwarded (RFC 3986 section 6.2.2).

    Dot segments removed, escapes of unreserved characters undone, hex upper-cased, `//` kept.
    Raises PathError for a control character, a backslash, `%00`, a bad escape, `..;`, or `%2F`/`%5C` unless allowed.
    """
    if not _PATH_BYTES.fullmatch(path):
        raise PathError("the path has a character that must be percent-encoded")
    if _RAW.search(path):
        path = _RAW.sub(lambda match: b"%%%02X" % match[0][0], path)
    if b"%" in path:
        if _BAD_ESCAPE.search(path):
            raise PathError("the path has an incomplete percent escape")
        path = _ESCAPE.sub(_unescape, path)
        if b"%00" in path:
            raise PathError("the path has an encoded NUL")
        if not allow_encoded_slash and (b"%2F" in path or b"%5C" in path):
            raise PathError("the path has an encoded slash or backslash")
    if b"/." in path:
        if _DOT_PARAMETER.search(path):
            raise PathError("the path has a dot segment with a parameter")
        path = _remove_dot_segments(path)
    return path


def _unescape(match: re.Match[bytes]) -> bytes:
    octet = int(match[1], 16)
    return bytes((octet,)) if octet in _UNRESERVED else b"%" + match[1].upper()


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4, for a path that starts with "/"."""
    output: list[bytes] = []
    parts = path.split(b"/")[1:]
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == b"..":
            if output:
                output.pop()
            if is_last:
                output.append(b"")
        elif part == b".":
            if is_last:
                output.append(b"")
        else:
            output.append(part)
    return b"/" + b"/".join(output)
