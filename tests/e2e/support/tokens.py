"""Bearer tokens: good ones as `make token` makes them, and bad ones of every kind."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

ISSUER = "https://local.dexorder.test"
KEY_FILE = Path(__file__).resolve().parents[3] / ".local" / "token-key.pem"


@functools.cache
def issuer_key() -> Ed25519PrivateKey:
    """The private key of the local issuer, whose public half the local gateway knows."""
    key = load_pem_private_key(KEY_FILE.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def key_id() -> str:
    """The `kid` of the local issuer's key: the first 16 hex digits of the SHA-256 of its public half."""
    return hashlib.sha256(_public()).hexdigest()[:16]


def claims(user: str, audience: str, **changes: Any) -> dict[str, Any]:
    """The claims of a good token, changed; None leaves a claim out."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": audience, "sub": user, "iat": now, "exp": now + 3600, **changes}
    return {name: value for name, value in whole.items() if value is not None}


def of_user(user: str, audience: str, **changes: Any) -> str:
    """A token signed with the local issuer's key."""
    return jwt.encode(claims(user, audience, **changes), issuer_key(), "EdDSA", {"kid": key_id()})


def of_other_key(user: str, audience: str) -> str:
    """A token that says it is the local issuer's, signed with a key made up here."""
    return jwt.encode(claims(user, audience), Ed25519PrivateKey.generate(), "EdDSA", {"kid": key_id()})


def unsigned(user: str, audience: str) -> str:
    """A token of the algorithm `none`."""
    header = _encoded({"alg": "none", "typ": "JWT", "kid": key_id()})
    return f"{header}.{_encoded(claims(user, audience))}."


def of_public_key_as_secret(user: str, audience: str) -> str:
    """A token of the algorithm HS256 whose secret is the issuer's public key, which everybody has."""
    header = _encoded({"alg": "HS256", "typ": "JWT", "kid": key_id()})
    signed = f"{header}.{_encoded(claims(user, audience))}"
    return f"{signed}.{_base64(hmac.digest(_public(), signed.encode(), 'sha256'))}"


def with_claims_changed(token: str, **changes: Any) -> str:
    """A token with other claims under the signature that was made for the old ones."""
    header, _, signature = token.split(".")
    changed = {**jwt.decode(token, options={"verify_signature": False}), **changes}
    return f"{header}.{_encoded(changed)}.{signature}"


def _public() -> bytes:
    return issuer_key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _encoded(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
