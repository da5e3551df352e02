"""Envelopes, keys and what is read of a workspace's answers."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dexorder_direct import ClientKey, Context, DirectError, KeyDocument, KeyNotPinned, Password, Token, UnusableAnswer, seal, thumbprint
from dexorder_direct.encoding import decode, encode

SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
HERE = Context("dexorder", "uid-1", "fund1")


def key_of(private: X25519PrivateKey) -> dict[str, str]:
    return {"kty": "OKP", "crv": "X25519", "x": encode(private.public_key().public_bytes_raw())}


def document(*keys: Any) -> dict[str, Any]:
    return {"keys": list(keys), "namespace": "dexorder", "workspaceUid": "uid-1", "run": "run-1", "time": 1_800_000_000}


def test_a_thumbprint_is_the_rfcs() -> None:
    # RFC 8037, appendix A.3.
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "left out"}
    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_only_the_workspace_opens_and_only_in_this_context() -> None:
    private, client = X25519PrivateKey.generate(), ClientKey()
    envelope = seal(key_of(private), HERE, Password("secret", "laptop").content(), client, "run-1")
    sealed = decode(envelope.enc) + decode(envelope.ciphertext)
    content = json.loads(SUITE.decrypt(sealed, private, HERE.info()))
    assert content["credential"] == {"kind": "password", "id": "laptop", "value": "secret"}
    assert content["clientKey"] == client.public
    assert content["run"] == "run-1"
    assert len(decode(content["nonce"])) == 16
    assert 0 < content["expiresAt"] - time.time() <= 120
    assert envelope.kid == thumbprint(key_of(private))
    for elsewhere in (Context("other", "uid-1", "fund1"), Context("dexorder", "uid-2", "fund1"), Context("dexorderuid", "-1", "fund1")):
        with pytest.raises(InvalidTag):
            SUITE.decrypt(sealed, private, elsewhere.info())


def test_no_two_envelopes_are_the_same() -> None:
    key, client = key_of(X25519PrivateKey.generate()), ClientKey()
    first, second = (seal(key, HERE, Password("secret").content(), client, "run-1") for _ in range(2))
    assert first.ciphertext != second.ciphertext


def test_a_key_counts_for_what_it_is_and_not_for_what_it_is_called() -> None:
    real, trap = key_of(X25519PrivateKey.generate()), key_of(X25519PrivateKey.generate())
    pin = thumbprint(real)
    shown = KeyDocument.read(document(trap | {"kid": pin}))
    with pytest.raises(KeyNotPinned, match=thumbprint(trap)):
        shown.pinned([pin])
    assert KeyDocument.read(document(trap, real)).pinned([pin]) == real


def test_a_token_is_fetched_for_each_login() -> None:
    tokens = iter(["one", "two"])
    credential = Token(lambda: next(tokens))
    assert [credential.content()["value"] for _ in range(2)] == ["one", "two"]


def test_credentials_are_not_printed() -> None:
    assert "secret" not in repr(Password("secret")) + repr(Token("secret"))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(st.none() | st.integers() | st.text(max_size=50), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_a_gateway_answers_is_read_or_refused(answer: object) -> None:
    for answered in (answer, document(answer), document() | {"run": answer}):
        try:
            KeyDocument.read(answered).pinned(["pin"])
        except DirectError:
            pass
        else:
            raise AssertionError("a key was taken")


def test_other_forms_are_named() -> None:
    with pytest.raises(UnusableAnswer, match="lacks"):
        KeyDocument.read({})
    for key in ({"kty": "EC"}, {"kty": "OKP", "crv": "X25519", "x": "short"}, {"kty": "OKP", "crv": "Ed25519", "x": encode(bytes(32))}, 1):
        with pytest.raises(UnusableAnswer):
            KeyDocument.read(document(key))
