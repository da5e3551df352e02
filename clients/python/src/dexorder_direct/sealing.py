"""The envelope: a credential sealed with HPKE (RFC 9180) to one workspace's key, for one user, for a minute, once."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from dexorder_direct.encoding import decode, encode
from dexorder_direct.errors import KeyNotPinned, UnusableAnswer
from dexorder_direct.keys import ClientKey, Jwk, thumbprint

VERSION = "dexorder-direct-v1"
LIFETIME = 60
"""How long an envelope is good, in seconds. The workspace takes no more than 120."""
ENCAPSULATED = 32

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Context:
    """What an envelope is for. Sealed for one context, it can't be opened in another."""

    namespace: str
    workspace_uid: str
    user: str

    def info(self) -> bytes:
        """Each field after its length, so that no two contexts agree."""
        fields = [field.encode() for field in (VERSION, self.namespace, self.workspace_uid, self.user)]
        return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


@dataclass(frozen=True, slots=True)
class KeyDocument:
    """What a workspace shows to whoever wants to seal for it."""

    keys: tuple[Jwk, ...]
    namespace: str
    workspace_uid: str
    run: str
    time: int

    @classmethod
    def read(cls, document: object) -> KeyDocument:
        """Read the answer of the workspace."""
        match document:
            case {"keys": list(keys), "namespace": str(namespace), "workspaceUid": str(uid), "run": str(run), "time": int(now)}:
                return cls(tuple(_key(key) for key in keys), namespace, uid, run, now)
        raise UnusableAnswer("the workspace's key document lacks keys, namespace, workspaceUid, run or time")

    def pinned(self, pins: Collection[str]) -> Jwk:
        """The first key whose thumbprint is known. What a key calls itself counts for nothing."""
        for key in self.keys:
            if thumbprint(key) in pins:
                return key
        raise KeyNotPinned([thumbprint(key) for key in self.keys], sorted(pins))


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed credential on its way."""

    kid: str
    enc: str
    ciphertext: str

    def to_json(self) -> bytes:
        """The body of the request."""
        return json.dumps({"kid": self.kid, "enc": self.enc, "ciphertext": self.ciphertext}).encode()


def seal(key: Jwk, context: Context, credential: Mapping[str, str], client: ClientKey, run: str, now: int | None = None) -> Envelope:
    """Seal a credential. `now` is the time at the workspace, if this clock may be wrong."""
    content: dict[str, Any] = {
        "credential": dict(credential),
        "clientKey": client.public,
        "nonce": encode(secrets.token_bytes(16)),
        "run": run,
        "expiresAt": (int(time.time()) if now is None else now) + LIFETIME,
    }
    public = X25519PublicKey.from_public_bytes(decode(key["x"]))
    sealed = _SUITE.encrypt(json.dumps(content).encode(), public, context.info())
    return Envelope(thumbprint(key), encode(sealed[:ENCAPSULATED]), encode(sealed[ENCAPSULATED:]))


def _key(key: object) -> Jwk:
    match key:
        case {"kty": "OKP", "crv": "X25519", "x": str(x)} if len(decode(x)) == 32:
            return {"kty": "OKP", "crv": "X25519", "x": x}
    raise UnusableAnswer("the workspace's key is no X25519 key")
