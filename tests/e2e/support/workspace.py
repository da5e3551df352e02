"""A workspace of a test: its manifest, and what the operator made and reports of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from support.kubectl import KubectlError
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kubectl import Kubectl, Object

START_SECONDS = 30.0
"""The longest that a start on the local cluster may take."""
BUSY = """
import http.client, json, socket

connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/dexorder/agent.sock")
connection.request("GET", "/lifecycle/status")
print(json.dumps(json.load(connection.getresponse())["busy"]))
"""
"""Run in the agent's container, it tells which of the user's programs run."""


def manifest(name: str, user: str, **spec: Any) -> Object:
    """The manifest of a workspace: the least that is needed, and what the spec changes of it."""
    return {
        "apiVersion": "dexorder.io/v1alpha1",
        "kind": "UserWorkspace",
        "metadata": {"name": name},
        "spec": {"userId": user, "tier": "standard", "auth": {"mode": "Gateway"}, **spec},
    }


def tier_manifest(name: str, **spec: Any) -> Object:
    """The manifest of a tier whose workspaces may do all and idle for an hour, and what the spec changes of it."""
    usual = {
        "idleTimeout": {"default": "1h", "most": "1h"},
        "access": "Full",
        "authModes": ["Gateway"],
        "storage": {"size": "1Gi", "retentionPolicy": "Retain"},
    }
    return {
        "apiVersion": "dexorder.io/v1alpha1",
        "kind": "WorkspaceTier",
        "metadata": {"name": name},
        "spec": {**usual, **spec},
    }


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a workspace."""

    status: str
    reason: str
    message: str


def condition(resource: Object, kind: str) -> Condition | None:
    """The condition of that type, if the operator reports it for the manifest as it is now."""
    status = resource.get("status", {})
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return None
    for entry in status.get("conditions", []):
        if entry["type"] == kind:
            return Condition(entry["status"], entry["reason"], entry["message"])
    return None


def parse_time(text: str) -> datetime:
    """A time of a status."""
    return datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class Workspace:
    """One workspace."""

    kubectl: Kubectl
    name: str
    user: str

    @property
    def child(self) -> str:
        """Name of its pod and of its claim."""
        return f"ws-{self.name}"

    @property
    def resource(self) -> Object:
        found = self.kubectl.get("uws", self.name)
        assert found is not None, f"workspace {self.name} is gone"
        return found

    @property
    def uid(self) -> str:
        uid: str = self.resource["metadata"]["uid"]
        return uid

    @property
    def status(self) -> Object:
        status: Object = self.resource.get("status", {})
        return status

    @property
    def pod(self) -> Object | None:
        return self.kubectl.get("pod", self.child)

    @property
    def pod_uid(self) -> str | None:
        pod = self.pod
        return None if pod is None else str(pod["metadata"]["uid"])

    @property
    def claim(self) -> Object | None:
        return self.kubectl.get("pvc", self.child)

    def condition(self, kind: str) -> Condition | None:
        return condition(self.resource, kind)

    def change(self, **spec: Any) -> None:
        """Change fields of the spec."""
        self.kubectl.patch("uws", self.name, {"spec": spec})

    def wait(self, kind: str, *, within: float = START_SECONDS) -> None:
        """Wait until the condition is true, as a person would with kubectl."""
        try:
            self.kubectl.wait("uws", self.name, f"condition={kind}", within=within)
        except KubectlError as error:
            message = f"{self.name} is not {kind} within {within:g} s: {error}; status: {self.status}"
            raise AssertionError(message) from error

    def wait_reason(self, kind: str, reason: str, *, within: float = START_SECONDS) -> Condition:
        """Wait until the condition has that reason."""

        def look() -> Condition | None:
            found = self.condition(kind)
            return found if found is not None and found.reason == reason else None

        try:
            return eventually(f"{kind} of {self.name} has the reason {reason}", look, within=within)
        except AssertionError as error:
            message = f"{error}; status: {self.status}"
            raise AssertionError(message) from None

    def delete_pod(self) -> str:
        """Delete the pod as a person would, not waiting for its end, and return its UID."""
        uid = self.pod_uid
        assert uid is not None, f"{self.name} has no pod to delete"
        self.kubectl.run("delete", "pod", self.child, "--wait=false")
        return uid

    def wait_for_another_pod(self, before: str) -> None:
        """Wait until the pod of that UID is gone and another one is made."""
        eventually("another pod", lambda: self.pod_uid not in (None, before), within=30)

    def git_log(self) -> str:
        """The subjects of the commits of the user's repository, newest first, as git in the agent's container says."""
        return self.in_agent("git", "-C", "/workspace/repository", "log", "--format=%H %s")

    def busy(self) -> list[str]:
        """What the agent does now, as it tells the sidecar."""
        running: list[str] = json.loads(self.in_agent("python3", "-c", BUSY))
        return running

    def in_agent(self, *command: str) -> str:
        """Run a command in the agent's container."""
        return self.kubectl.run("exec", self.child, "--container", "agent", "--", *command)
