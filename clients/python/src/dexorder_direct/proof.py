"""The proof on each request: a JWS by the client's key over method, token and body, good once."""

from __future__ import annotations

import hashlib
import json
import secrets

from dexorder_direct.encoding import encode
from dexorder_direct.keys import ClientKey

TYPE = "dexorder-proof+jwt"
TARGET = "mcp"


def digest(data: bytes) -> str:
    """Base64url of the SHA-256 of some bytes."""
    return encode(hashlib.sha256(data).digest())


def sign(key: ClientKey, method: str, token: str, run: str, body: bytes, now: int) -> str:
    """Sign a proof for one request to a run of a workspace."""
    header = {"typ": TYPE, "alg": "EdDSA", "jwk": key.public}
    claims = {
        "htm": method,
        "htu": TARGET,
        "bh": digest(body),
        "ath": digest(token.encode()),
        "run": run,
        "iat": now,
        "jti": encode(secrets.token_bytes(16)),
    }
    text = ".".join(encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{text}.{encode(key.sign(text.encode()))}"
