"""Structured fields (RFC 9651), the part of them that signatures and digests are made of, read strictly.

    Signature-Input: ve=("@method" "@path");created=1700000000;keyid="svc_x"

In:    the octets of one field line.
Out:   a dictionary of items and inner lists; an inner list in its one canonical form.
Laws:  1. What RFC 9651 refuses is refused whole: "fail parsing" leaves nothing to act on. 2. Stricter than the RFC
       where two readers could differ: a name that comes twice (there the last one counts), base64 that is not in its
       canonical form. 3. Decimals, dates and display strings are in no field we read, so they are refused. 4. Length,
       members, items and parameters are bounded; no input costs more than linear time.
Not here: what a field means (signatures, digests), structured fields that only phases write.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, NoReturn

FIELD_BYTES_MAX: Final = 4_096
MEMBERS_MAX: Final = 16
ITEMS_MAX: Final = 64
PARAMETERS_MAX: Final = 16

# RFC 9651 section 3.1.2, 3.3.3, 3.3.1, 3.3.5, 3.3.4, 3.3.6.
_KEY: Final = re.compile(rb"[a-z*][a-z0-9_\-.*]*+")
_STRING: Final = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+)"')
_INTEGER: Final = re.compile(rb"-?[0-9]{1,15}+(?![0-9.])")
_BYTES: Final = re.compile(rb":([A-Za-z0-9+/]*+={0,2}+):")
_TOKEN: Final = re.compile(rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+")
_BOOLEAN: Final = re.compile(rb"\?([01])")
_ESCAPED: Final = re.compile(rb"\\(.)")
_COMMA: Final = re.compile(rb"[ \t]*+,[ \t]*+")
_SPACES: Final = re.compile(rb" *+")


class StructuredError(ValueError):
    """The field is not one we take; the message says why, without its octets."""


class Token(str):
    """A bare word, as opposed to a quoted string."""

    __slots__ = ()


Bare = bool | int | str | bytes
"""Boolean, integer, string or Token, byte sequence."""
Parameters = dict[str, Bare]


@dataclass(frozen=True, slots=True)
class Item:
    value: Bare
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class InnerList:
    items: tuple[Item, ...]
    parameters: Parameters


Member = Item | InnerList


def dictionary(text: bytes) -> dict[str, Member]:
    """Read a dictionary (RFC 9651 section 4.2.2); an empty field is an empty one. Raises StructuredError."""
    if len(text) > FIELD_BYTES_MAX:
        _refuse("it is too long")
    text = text.strip(b" ")
    members: dict[str, Member] = {}
    at = 0
    while text:
        key, at = _key(text, at)
        if key in members:
            _refuse("a member comes twice")
        if len(members) >= MEMBERS_MAX:
            _refuse("it has too many members")
        if text[at : at + 1] == b"=":
            members[key], at = _member(text, at + 1)
        else:
            parameters, at = _parameters(text, at)
            members[key] = Item(True, parameters)
        if at == len(text):
            break
        comma = _COMMA.match(text, at)
        if comma is None:
            _refuse("there is no comma behind a member")
        at = comma.end()
    return members


def serialise(members: InnerList) -> bytes:
    """Write an inner list with its parameters (RFC 9651 section 4.1.1.1)."""
    items = b" ".join([_bare_text(item.value) + _parameters_text(item.parameters) for item in members.items])
    return b"(%b)%b" % (items, _parameters_text(members.parameters))


def _member(text: bytes, at: int) -> tuple[Member, int]:
    if text[at : at + 1] != b"(":
        return _item(text, at)
    at += 1
    items: list[Item] = []
    while True:
        spaces = _SPACES.match(text, at)
        assert spaces is not None
        if text[spaces.end() : spaces.end() + 1] == b")":
            parameters, at = _parameters(text, spaces.end() + 1)
            return InnerList(tuple(items), parameters), at
        if items and spaces.end() == at:
            _refuse("an inner list does not end, or has no space between its items")
        if len(items) >= ITEMS_MAX:
            _refuse("an inner list has too many items")
        item, at = _item(text, spaces.end())
        items.append(item)


def _item(text: bytes, at: int) -> tuple[Item, int]:
    value, at = _bare(text, at)
    parameters, at = _parameters(text, at)
    return Item(value, parameters), at


def _parameters(text: bytes, at: int) -> tuple[Parameters, int]:
    parameters: Parameters = {}
    while text[at : at + 1] == b";":
        spaces = _SPACES.match(text, at + 1)
        assert spaces is not None
        key, at = _key(text, spaces.end())
        if key in parameters:
            _refuse("a parameter comes twice")
        if len(parameters) >= PARAMETERS_MAX:
            _refuse("it has too many parameters")
        value: Bare = True
        if text[at : at + 1] == b"=":
            value, at = _bare(text, at + 1)
        parameters[key] = value
    return parameters, at


def _key(text: bytes, at: int) -> tuple[str, int]:
    match = _KEY.match(text, at)
    if match is None:
        _refuse("a key is missing or malformed")
    return match[0].decode("ascii"), match.end()


def _bare(text: bytes, at: int) -> tuple[Bare, int]:
    if match := _STRING.match(text, at):
        return _ESCAPED.sub(rb"\1", match[1]).decode("ascii"), match.end()
    if match := _INTEGER.match(text, at):
        return int(match[0]), match.end()
    if match := _BYTES.match(text, at):
        return _decoded(match[1]), match.end()
    if match := _TOKEN.match(text, at):
        return Token(match[0].decode("ascii")), match.end()
    if match := _BOOLEAN.match(text, at):
        return match[1] == b"1", match.end()
    return _refuse("a value is missing, malformed or of a kind that is not read here")


def _decoded(text: bytes) -> bytes:
    try:
        octets = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        _refuse("a byte sequence is not base64")
    if base64.b64encode(octets) != text:
        _refuse("a byte sequence is not in its canonical form")
    return octets


def _bare_text(value: Bare) -> bytes:
    if isinstance(value, bool):
        return b"?1" if value else b"?0"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, bytes):
        return b":%b:" % base64.b64encode(value)
    if isinstance(value, Token):
        return value.encode("ascii")
    return b'"%b"' % value.replace("\\", "\\\\").replace('"', '\\"').encode("ascii")


def _parameters_text(parameters: Parameters) -> bytes:
    return b"".join([
        b";%b" % key.encode("ascii") if value is True else b";%b=%b" % (key.encode("ascii"), _bare_text(value))
        for key, value in parameters.items()
    ])  # fmt: skip


def _refuse(why: str) -> NoReturn:
    raise StructuredError(why)
