"""The signed identity that the gateway and the operator send to a sidecar, made here to try a sidecar's checks."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

if TYPE_CHECKING:
    from support.kubectl import Kubectl

HEADER = "dexorder-identity"
GATEWAY = "dexorder-gateway"
OPERATOR = "dexorder-operator"


@dataclass(frozen=True, slots=True)
class Signer:
    """A program that signs identities."""

    issuer: str
    key: Ed25519PrivateKey

    @classmethod
    def made_up(cls, issuer: str) -> Self:
        """A signer with a key that no sidecar knows."""
        return cls(issuer, Ed25519PrivateKey.generate())

    @classmethod
    def of_cluster(cls, system: Kubectl, issuer: str) -> Self:
        """The signer of the installation, read with the rights of its administrator."""
        secret = system.get("secret", f"{issuer}-signing-key")
        assert secret is not None, f"{issuer} has no signing key"
        key = load_pem_private_key(base64.b64decode(secret["data"]["key.pem"]), password=None)
        assert isinstance(key, Ed25519PrivateKey)
        return cls(issuer, key)

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def key_id(self) -> str:
        return hashlib.sha256(self.public).hexdigest()[:16]

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as it stands in a pod's annotation."""
        x = base64.urlsafe_b64encode(self.public).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.key_id}

    def sign(self, workspace_uid: str, subject: str, **changes: Any) -> str:
        """An identity for one workspace, with changed claims."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": workspace_uid, "sub": subject, "iat": now, "exp": now + 60}
        claims |= {"jti": secrets.token_urlsafe(16), **changes}
        return jwt.encode(claims, self.key, "EdDSA", {"kid": self.key_id})

    def header(self, workspace_uid: str, subject: str, **changes: Any) -> dict[str, str]:
        """The same as the header of a request."""
        return {HEADER: self.sign(workspace_uid, subject, **changes)}
