"""Users of a test: an ID that nobody had before, a token, an MCP client, and their workspaces."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from support import tokens
from support.mcp_http import Mcp
from support.workspace import Workspace, manifest

if TYPE_CHECKING:
    import httpx2

    from support.kubectl import Kubectl

USER_ANNOTATION = "dexorder.io/user-id"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the local gateway."""

    id: str
    kubectl: Kubectl
    http: httpx2.Client
    gateway_url: str

    @classmethod
    def of_environment(cls, id_: str, kubectl: Kubectl, http: httpx2.Client) -> Self:
        """A user of the gateway that GATEWAY_URL names."""
        return cls(id_, kubectl, http, os.environ["GATEWAY_URL"].rstrip("/"))

    @property
    def endpoint(self) -> str:
        """The gateway's MCP endpoint."""
        return f"{self.gateway_url}/mcp"

    @property
    def token(self) -> str:
        """A bearer token that the local gateway accepts."""
        return tokens.of_user(self.id, self.endpoint)

    @property
    def mcp(self) -> Mcp:
        """A client that knows the gateway's address and a token, and nothing else."""
        return self.with_token(self.token)

    def with_token(self, token: str) -> Mcp:
        """A client with another token."""
        return Mcp(self.http, self.endpoint, {"Authorization": f"Bearer {token}"})

    def workspaces(self) -> list[Workspace]:
        """The workspaces that the cluster has for the user."""
        found = self.kubectl.list("uws", "--field-selector", f"spec.userId={self.id}")
        return [Workspace(self.kubectl, item["metadata"]["name"], self.id) for item in found]

    @property
    def workspace(self) -> Workspace:
        """The user's only workspace."""
        found = self.workspaces()
        assert len(found) == 1, f"user {self.id} has {len(found)} workspaces"
        return found[0]

    def make_workspace(self, name: str | None = None, **spec: Any) -> Workspace:
        """Apply a manifest of a workspace for the user."""
        workspace = Workspace(self.kubectl, name or self.id, self.id)
        self.kubectl.apply(manifest(workspace.name, self.id, **spec))
        return workspace

    def remove(self) -> None:
        """Delete the user's workspaces and the claims that they leave."""
        mine = [
            f"{item['kind']}/{item['metadata']['name']}"
            for item in self.kubectl.list("uws,pvc")
            if self.id in (item["spec"].get("userId"), item["metadata"].get("annotations", {}).get(USER_ANNOTATION))
        ]
        if mine:
            self.kubectl.run("delete", "--ignore-not-found", "--wait=false", *mine)
