"""A certified OpenID provider (npm oidc-provider) on this machine, reached by pods of the local cluster over HTTPS."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx2

from support.certificates import self_signed

if TYPE_CHECKING:
    from collections.abc import Iterable

NODE = Path(__file__).resolve().parents[3] / ".local" / "node"
SCRIPT = Path(__file__).with_name("oidc_provider.mjs")


def address_towards(url: str) -> str:
    """The address of this machine that the cluster behind a URL can answer."""
    target = urlsplit(url)
    assert target.hostname is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target.hostname, target.port or 80))
        address: str = probe.getsockname()[0]
    return address


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


class OidcProvider:
    """A provider that runs until it is left."""

    def __init__(self, folder: Path, address: str, audience: str, users: Iterable[str]) -> None:
        self.issuer = f"https://{address}:{_free_port(address)}"
        self._secret = secrets.token_hex(16)
        certificate, key = self_signed("oidc-provider", address)
        self.certificate = certificate.decode()
        (folder / "certificate.pem").write_bytes(certificate)
        (folder / "key.pem").write_bytes(key)
        # Node looks for packages beside the script.
        script = NODE / SCRIPT.name
        shutil.copyfile(SCRIPT, script)
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [str(NODE / "node_modules" / ".bin" / "node"), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **os.environ,
                "ISSUER": self.issuer,
                "AUDIENCE": audience,
                "CERTIFICATE": str(folder / "certificate.pem"),
                "KEY": str(folder / "key.pem"),
                "USERS": ",".join(users),
                "SECRET": self._secret,
            },
        )
        self._expect("ready")
        trusted = ssl.create_default_context(cadata=self.certificate)
        self._http = httpx2.Client(verify=trusted, trust_env=False, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._http.close()
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        self._log.close()

    @property
    def client_secret(self) -> str:
        """What every user's client proves itself with."""
        return self._secret

    def token(self, user: str) -> str:
        """A new access token of a user."""
        response = self._http.post(
            f"{self.issuer}/token", data={"grant_type": "client_credentials"}, auth=(user, self._secret)
        )
        response.raise_for_status()
        granted: dict[str, Any] = response.json()
        token: str = granted["access_token"]
        return token

    def key_ids(self) -> list[str]:
        """The keys that it publishes."""
        keys = self._http.get(f"{self.issuer}/jwks").raise_for_status().json()["keys"]
        return [key["kid"] for key in keys]

    def rotate(self) -> None:
        """Sign with a new key from now on; the keys before stay published."""
        self._command("rotate")

    def retire(self) -> None:
        """Publish the newest key alone."""
        self._command("retire")

    def _command(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._expect(command)

    def _expect(self, wanted: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == wanted:
                return
        message = f"the OpenID provider ended before it said {wanted!r}"
        raise AssertionError(message)
