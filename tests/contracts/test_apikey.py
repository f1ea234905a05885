import random
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import apikey


def test_a_new_key_has_our_format_and_parses():
    key = apikey.make_key("live", secrets.randbelow)
    assert len(key) == len("ve_live_") + 12 + 1 + 32 + 6
    parsed = apikey.parse_key(key.encode())
    assert parsed is not None
    assert (parsed.mode, parsed.key_id) == ("live", key[8:20])
    assert apikey.has_our_prefix(key.encode())


@given(st.integers(min_value=0), st.integers(0, 57), st.sampled_from("abcXYZ019"))
def test_one_changed_character_is_refused_with_no_look_up(seed, position, character):
    key = apikey.make_key("test", random.Random(seed).randrange)
    changed = key[:position] + character + key[position + 1 :]
    parsed = apikey.parse_key(changed.encode())
    assert (parsed is not None) == (changed == key)


@pytest.mark.parametrize("key", [b"", b"demo_key_abc123", b"ve_live_", b"ve_prod_" + b"a" * 51, b"\xff" * 59])
def test_other_formats_are_not_ours(key):
    assert apikey.parse_key(key) is None


def test_the_digest_is_frozen():
    assert (
        apikey.digest(b"demo_key_abc123", 1, b"\x00" * 32)
        == "v1:7f78ca7e4bd10f24dcb8f4638340e7c6718c3733c9d4105f234dcec7d305b8b8"
    )


def test_the_checksum_is_frozen():
    assert apikey.make_key("live", lambda _: 0) == "ve_live_000000000000_" + "0" * 32 + "3jTFXw"


def test_peppers_come_newest_first():
    peppers = apikey.parse_peppers(f"1:{'00' * 32}, 2:{'11' * 32}")
    assert list(peppers) == [2, 1]
    assert peppers[2] == b"\x11" * 32


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "entry 1 must be"),
        ("abc", "entry 1 must be"),
        ("x:00", "entry 1 must be"),
        ("0:00", "entry 1 must be"),
        ("1:zz", "entry 1 is not hex"),
        ("1:00", "entry 1 is shorter"),
        (f"1:{'00' * 32},1:{'00' * 32}", "twice"),
    ],
)
def test_broken_peppers_are_named_and_never_echoed(text, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        apikey.parse_peppers(text)
    assert "00" not in str(caught.value).replace("1000", "")


def test_only_prefix_and_last_four_are_ever_shown():
    key = apikey.make_key("live", secrets.randbelow)
    assert apikey.display(key) == (key[:20], key[-4:])
    assert apikey.display("demo_key_abc123") == ("demo", "c123")


def test_a_digest_says_the_version_of_its_pepper():
    assert apikey.digest_version(apikey.digest(b"k" * 12, 12, b"\0" * 32)) == 12
    strange = ("", "v", "vx:00", "1:00", "v\u0663:00", "v" + "9" * 5_000 + ":00")
    assert [apikey.digest_version(text) for text in strange] == [0] * 6


def test_only_who_holds_the_pepper_can_prove_a_renewal_and_of_this_key_alone():
    said = ("tenant", "key-1", "v1:00", "v2:11")
    proof = apikey.renewal_proof(b"p" * 32, *said)
    assert apikey.proves_renewal(proof, b"p" * 32, *said)
    assert not apikey.proves_renewal(proof, b"q" * 32, *said)
    for place in range(4):
        other = [*said]
        other[place] += "0"
        assert not apikey.proves_renewal(proof, b"p" * 32, *other)
    assert not apikey.proves_renewal("\u00e9", b"p" * 32, *said)


def test_no_key_that_can_be_presented_has_a_digest_that_is_a_proof():
    """RFC 9110 section 5.5: field values containing CR, LF, or NUL characters are invalid."""
    proof = apikey.renewal_proof(b"p" * 32, "t", "k", "o", "n")
    assert apikey.digest(b"\0renewal\0t\0k\0o\0n", 1, b"p" * 32) == "v1:" + proof
