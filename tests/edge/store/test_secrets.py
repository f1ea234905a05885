from __future__ import annotations

import pytest

from contracts import sealing
from contracts.snapshot import service_secret_place
from edge.errors import GatewayError
from edge.store import secrets
from edge.store.secrets import SealedSecrets

KEYS = sealing.parse_keys(f"1:{'5a' * 32}")
PLACE = service_secret_place("tenant", "service")
SECRET = b"a secret of thirty-two octets ok"


def sealed(secret: bytes = SECRET, place: bytes = PLACE, nonce: int = 1) -> str:
    return sealing.seal(KEYS, secret, place, nonce.to_bytes(sealing.NONCE_BYTES, "big"))


def test_a_secret_is_opened_where_it_belongs_and_remembered(monkeypatch):
    opener, text = SealedSecrets(KEYS), sealed()
    assert opener.opened(text, PLACE) == SECRET
    monkeypatch.setattr(secrets, "open_sealed", None)
    assert opener.opened(text, PLACE) == SECRET


def test_a_secret_that_was_moved_does_not_open_though_it_is_remembered_elsewhere():
    opener, text = SealedSecrets(KEYS), sealed()
    opener.opened(text, PLACE)
    for place in (service_secret_place("other", "service"), service_secret_place("tenant", "another")):
        with pytest.raises(GatewayError) as caught:
            opener.opened(text, place)
        assert caught.value.problem.slug == "identity-unavailable"
        assert "belongs elsewhere" in caught.value.internal


def test_a_key_that_is_not_listed_is_named_and_nothing_else_is_said():
    opener = SealedSecrets({})
    with pytest.raises(GatewayError) as caught:
        opener.opened(sealed(), PLACE)
    assert "sealed under key 1, which is not among the sealing keys" in caught.value.internal
    assert "key" not in caught.value.detail
    assert SECRET.decode() not in repr(caught.value)


def test_what_is_remembered_is_bounded_and_the_repr_says_only_how_much(monkeypatch):
    monkeypatch.setattr(secrets, "REMEMBERED_MAX", 2)
    opener, texts = SealedSecrets(KEYS), [sealed(nonce=number) for number in range(3)]
    for text in (texts[0], texts[1], texts[0], texts[2]):
        opener.opened(text, PLACE)
    assert repr(opener) == "<SealedSecrets 2>"
    assert [name[0] for name in opener._opened] == [texts[0], texts[2]], "what was not asked for goes first"
