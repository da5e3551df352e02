"""The cluster as kubectl shows it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as its JSON."""

SYSTEM_NAMESPACE = "dexorder-system"
WORKSPACE_NAMESPACE = "dexorder"


class KubectlError(Exception):
    """A kubectl command failed; the text is what it printed."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl in one namespace."""

    namespace: str

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command and return what it printed."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def read(self, *arguments: str) -> Object:
        """Run a command with JSON output."""
        parsed: Object = json.loads(self.run(*arguments, "--output", "json"))
        return parsed

    def get(self, kind: str, name: str) -> Object | None:
        """The object, or None if there is none."""
        text = self.run("get", kind, name, "--ignore-not-found", "--output", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def list(self, kind: str, *selectors: str) -> list[Object]:
        """The objects that the selectors pick."""
        items: list[Object] = self.read("get", kind, *selectors)["items"]
        return items

    def apply(self, manifest: Object) -> Object:
        """Apply a manifest and return the object as it then is."""
        text = self.run("apply", "--filename", "-", "--output", "json", stdin=json.dumps(manifest))
        applied: Object = json.loads(text)
        return applied

    def refusal(self, manifest: Object) -> str:
        """Apply a manifest that must be refused and return what the API server said."""
        try:
            self.apply(manifest)
        except KubectlError as refused:
            return str(refused)
        self.run("delete", "--filename", "-", "--ignore-not-found", "--wait=false", stdin=json.dumps(manifest))
        message = f"the API server took {json.dumps(manifest)}"
        raise AssertionError(message)

    def patch(self, kind: str, name: str, patch: Object) -> None:
        """Change fields of an object."""
        self.run("patch", kind, name, "--type=merge", "--patch", json.dumps(patch))

    def wait(self, kind: str, name: str, condition: str, *, within: float) -> None:
        """Wait until `kubectl wait --for` sees it."""
        self.run("wait", f"{kind}/{name}", f"--for={condition}", f"--timeout={within:g}s", timeout=within + 10)
