"""Lets MCP clients into Dexorder workspaces of auth mode Direct.

The gateway on the way can read neither the credential nor act with what it sees: the credential is sealed to the workspace's own
key, and each request bears a proof made with a key that never leaves this process.
"""

from dexorder_direct.auth import DirectAuth
from dexorder_direct.credentials import Credential, Password, Token
from dexorder_direct.errors import DirectError, KeyNotPinned, LoginRefused, UnusableAnswer
from dexorder_direct.hashing import hash_password
from dexorder_direct.keys import ClientKey, thumbprint
from dexorder_direct.sealing import Context, Envelope, KeyDocument, seal
from dexorder_direct.session import Workspace

__all__ = [
    "ClientKey",
    "Context",
    "Credential",
    "DirectAuth",
    "DirectError",
    "Envelope",
    "KeyDocument",
    "KeyNotPinned",
    "LoginRefused",
    "Password",
    "Token",
    "UnusableAnswer",
    "Workspace",
    "hash_password",
    "seal",
    "thumbprint",
]
