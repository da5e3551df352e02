"""Anonymous visitors of a test, each from an address of its own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.mcp_http import Mcp
from support.workspace import Workspace

if TYPE_CHECKING:
    import httpx2

    from support.kubectl import Kubectl, Object

VISITOR = "dexorder-visitor"
SESSION = "dexorder-session"
LABEL = "dexorder.io/anonymous=true"


def an_address() -> str:
    """An address that nobody else comes from: of the range for documentation, as the limits count it."""
    return f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"


def anonymous_workspaces(kubectl: Kubectl) -> list[Object]:
    return kubectl.list("uws", "--selector", LABEL)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor."""

    http: httpx2.Client
    gateway_url: str
    address: str
    credential: str

    @classmethod
    def come(cls, http: httpx2.Client, gateway_url: str, address: str) -> Visitor:
        """Ask the gateway for a new one."""
        response = http.post(f"{gateway_url}/public/visitors", headers={"X-Forwarded-For": address})
        assert response.status_code == 201, response.text
        return cls(http, gateway_url, address, response.json()["visitor"])

    @property
    def endpoint(self) -> str:
        return f"{self.gateway_url}/public/mcp"

    @property
    def mcp(self) -> Mcp:
        """A client that shows the credential in its own header."""
        return self.showing({VISITOR: self.credential})

    def showing(self, credentials: dict[str, str]) -> Mcp:
        """A client from the visitor's address with other credentials."""
        return Mcp(self.http, self.endpoint, {"X-Forwarded-For": self.address, **credentials})


def workspaces_since(kubectl: Kubectl, before: list[Object]) -> list[Workspace]:
    """The workspaces of visitors that were made since."""
    known = {item["metadata"]["uid"] for item in before}
    new = [item for item in anonymous_workspaces(kubectl) if item["metadata"]["uid"] not in known]
    return [Workspace(kubectl, item["metadata"]["name"], item["spec"]["userId"]) for item in new]
