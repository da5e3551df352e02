"""The client's own key, and thumbprints of public keys (RFC 7638)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dexorder_direct.encoding import encode

Jwk = Mapping[str, str]


def thumbprint(jwk: Jwk) -> str:
    """What users compare and pin: base64url of the SHA-256 of the key's members in a fixed form."""
    members = {name: jwk[name] for name in ("crv", "kty", "x")}
    return encode(hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest())


class ClientKey:
    """An Ed25519 key. Tokens are bound to it, and it signs each request; it is never written anywhere."""

    def __init__(self, private: Ed25519PrivateKey | None = None) -> None:
        self._private = private or Ed25519PrivateKey.generate()
        self.public: dict[str, str] = {"kty": "OKP", "crv": "Ed25519", "x": encode(self._private.public_key().public_bytes_raw())}

    def sign(self, data: bytes) -> bytes:
        """The signature of some bytes."""
        return self._private.sign(data)
