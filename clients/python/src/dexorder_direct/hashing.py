"""The hash of a password, for the Secret that a workspace names."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB = 19456
PASSES = 2
LANES = 1


def hash_password(password: str) -> str:
    """An argon2id hash in PHC form. The sidecar computes hashes of up to 32 MiB, ten passes and four lanes."""
    if not 0 < len(password.encode()) <= 1024:
        raise ValueError("a password has from 1 to 1024 bytes")
    hashed = Argon2id(salt=os.urandom(16), length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    return hashed.derive_phc_encoded(password.encode())
