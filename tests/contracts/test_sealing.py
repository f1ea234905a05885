"""Twin of contracts.sealing: secrets at rest."""

from __future__ import annotations

import base64

import pytest

from contracts import sealing
from contracts.sealing import SealError, key_id_of, open_sealed, parse_keys, place, seal

OLD = parse_keys("1:" + "11" * 32)
BOTH = parse_keys("1:" + "11" * 32 + ", 2:" + "22" * 32)
NEW = parse_keys("2:" + "22" * 32)
HERE = place("origin-client-key", "tenant-1", "origin-1")
NONCE = bytes(range(12))


def test_what_was_sealed_opens_and_shows_nothing_of_the_secret():
    sealed = seal(OLD, b"the secret", HERE, NONCE)
    assert sealed.startswith("s1.1.")
    assert sealed.isascii()
    assert b"secret" not in base64.urlsafe_b64decode(sealed.rpartition(".")[2])
    assert open_sealed(OLD, sealed, HERE) == b"the secret"


def test_the_newest_key_seals_and_every_key_that_is_listed_opens():
    before = seal(OLD, b"x", HERE, NONCE)
    after = seal(BOTH, b"x", HERE, NONCE)
    assert (key_id_of(before), key_id_of(after)) == (1, 2)
    assert open_sealed(BOTH, before, HERE) == open_sealed(BOTH, after, HERE) == open_sealed(NEW, after, HERE) == b"x"
    with pytest.raises(SealError, match="key 1, which is not among"):
        open_sealed(NEW, before, HERE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        place("origin-client-key", "tenant-2", "origin-1"),
        place("origin-client-key", "tenant-1", "origin-2"),
        place("another-purpose", "tenant-1", "origin-1"),
        place("origin-client-key", "tenant-", "1origin-1"),
    ],
)
def test_a_sealed_secret_that_was_moved_does_not_open(elsewhere):
    with pytest.raises(SealError, match="changed or belongs elsewhere"):
        open_sealed(OLD, seal(OLD, b"x", HERE, NONCE), elsewhere)


def test_places_cannot_be_forged_by_moving_a_border():
    assert place("a", "bc", "d") != place("a", "b", "cd") != place("ab", "c", "d")


@pytest.mark.parametrize("position", [5, 10, -1])
def test_a_sealed_secret_that_was_changed_does_not_open(position):
    sealed = seal(OLD, b"xyz", HERE, NONCE)
    changed = list(sealed)
    changed[position] = "A" if changed[position] != "A" else "B"
    with pytest.raises(SealError):
        open_sealed(OLD, "".join(changed), HERE)


@pytest.mark.parametrize("text", ["", "x", "s1", "s1.x.AAAA", "s1.1000.AAAA", "s2.1.AAAA", "s1.٣.AAAA"])
def test_what_is_not_sealed_text_is_said_so(text):
    with pytest.raises(SealError, match="not a sealed secret"):
        open_sealed(OLD, text, HERE)


@pytest.mark.parametrize("text", ["s1.1.", "s1.1.AAAA", "s1.1.!!!!", "s1.1.AAA", "s1.1.ä"])
def test_sealed_text_that_is_cut_or_garbled_does_not_open(text):
    with pytest.raises(SealError, match="key 1"):
        open_sealed(OLD, text, HERE)


def test_without_a_key_nothing_is_sealed():
    with pytest.raises(SealError, match="no sealing keys"):
        seal({}, b"x", HERE, NONCE)


def test_keys_come_newest_first():
    assert list(BOTH) == [2, 1]
    assert BOTH[2] == b"\x22" * 32


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "entry 1 must be"),
        ("abc", "entry 1 must be"),
        ("0:00", "entry 1 must be"),
        ("²:00", "entry 1 must be"),
        ("1000:00", "entry 1 must be"),
        ("1:zz", "entry 1 is not hex"),
        ("1:" + "ab" * 31, "entry 1 is not 32"),
        ("1:" + "ab" * 33, "entry 1 is not 32"),
        (f"1:{'ab' * 32},01:{'cd' * 32}", "id 1 appears twice"),
    ],
)
def test_broken_keys_are_named_and_never_echoed(text, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_keys(text)
    assert "abab" not in str(caught.value)


def test_the_demos_mark_fits_into_a_key():
    assert len(sealing.DEMO_MARK) < 32
