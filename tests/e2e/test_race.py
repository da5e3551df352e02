"""Workspaces that are stopped, touched, deleted and made again at random moments answer right and lose nothing.

RACE_ROUNDS disturbances (60; 1000 for the full length) hit RACE_WORKSPACES workspaces (6; 20), on average RACE_GAP
seconds apart. RACE_SEED repeats the choices of a run.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2

from support.api import api
from support.kubectl import WORKSPACE_NAMESPACE, Kubectl, KubectlError
from support.mcp_http import Mcp, RefusedError, answer, headers, payload
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.kubectl import Object
    from support.users import User
    from support.workspace import Workspace

ROUNDS = int(os.environ.get("RACE_ROUNDS", "60"))
WORKSPACES = int(os.environ.get("RACE_WORKSPACES", "6"))
GAP = float(os.environ.get("RACE_GAP", "0.6"))
SEED = os.environ.get("RACE_SEED") or secrets.token_hex(4)
STALE_SECONDS = 20.0
"""How long the report of a pod that has gone may stay on a busy machine. It is a bound on hanging, not on speed."""
CALL_SECONDS = 120.0
API = f"/api/v1/namespaces/{WORKSPACE_NAMESPACE}/pods"
WORKSPACES_API = f"/apis/dexorder.io/v1alpha1/namespaces/{WORKSPACE_NAMESPACE}/userworkspaces"


class Client(threading.Thread):
    """A user who counts in a file, reads it back, and keeps a record of every answer."""

    def __init__(self, user: User) -> None:
        super().__init__(daemon=True)
        self.user = user
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._possible = {""}
        """What the file may hold: the last acknowledged text, and what was sent since without an answer."""

    def run(self) -> None:
        number = 0
        with httpx2.Client(trust_env=False, timeout=CALL_SECONDS) as http:
            while not self._over.is_set():
                try:
                    self._step(Mcp(http, self.user.endpoint, self.user.mcp.credentials), number)
                except Exception as error:
                    self.wrong.append(f"{self.user.id}: {error!r}")
                    return
                number += 1

    def end(self) -> None:
        self._over.set()

    def _step(self, mcp: Mcp, number: int) -> None:
        text = str(number)
        self._possible.add(text)
        written = self._ask(mcp, "write_file", {"path": "count.txt", "content": text})
        if written is not None:
            self._possible = {text}
        self.check(self._ask(mcp, "read_file", {"path": "count.txt"}))

    def check(self, read: dict[str, Any] | None) -> None:
        """What was read is what was acknowledged last, or was sent since."""
        if read is not None and read["content"] not in self._possible:
            self.wrong.append(f"{self.user.id} read {read['content']!r}, expected one of {sorted(self._possible)}")

    def _ask(self, mcp: Mcp, tool: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The result of a call, or None if it was refused as something that may be tried again."""
        params = {"name": tool, "arguments": arguments}
        try:
            response = mcp.http.post(
                mcp.url,
                json=payload("tools/call", params),
                headers={**mcp.credentials, **headers("tools/call", params)},
            )
        except httpx2.TransportError as error:
            self.answers[f"connection: {type(error).__name__}"] += 1
            return None
        if response.status_code in (httpx2.codes.SERVICE_UNAVAILABLE, httpx2.codes.BAD_GATEWAY):
            reason = response.json()["error"]["data"]["reason"]
            self.answers[f"{response.status_code} {reason}"] += 1
            self._over.wait(0.2)
            return None
        reply = answer(response)
        if response.status_code != httpx2.codes.OK or "error" in reply:
            self.wrong.append(f"{self.user.id}: {response.status_code} {reply}")
            return None
        result: dict[str, Any] = reply["result"]
        if result.get("isError"):
            # A workspace that is new has no such file yet.
            if self._possible != {""} and "" not in self._possible:
                self.wrong.append(f"{self.user.id}: {tool} failed: {result['content']}")
            return None
        self.answers["right"] += 1
        structured: dict[str, Any] = result["structuredContent"]
        return structured


class Watcher(threading.Thread):
    """Looks at pods and reports again and again, and notes what must never be."""

    def __init__(self, kubectl: Kubectl) -> None:
        super().__init__(daemon=True)
        self.violations: list[str] = []
        self.looks = 0
        self._kubectl = kubectl
        self._over = threading.Event()
        self._stale: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        with api(self._kubectl) as client:
            while not self._over.wait(0.1):
                try:
                    self._look(client)
                except Exception as error:
                    self.violations.append(f"the watcher failed: {error!r}")
                    return

    def end(self) -> None:
        self._over.set()
        self.join()

    def _look(self, client: httpx2.Client) -> None:
        # Workspaces first: a pod that ends between the two looks was alive when the report was read.
        workspaces = client.get(WORKSPACES_API).raise_for_status().json()["items"]
        pods = client.get(API).raise_for_status().json()["items"]
        self.looks += 1
        users: dict[str, list[str]] = {}
        for pod in pods:
            if pod["status"].get("phase") in ("Succeeded", "Failed"):
                continue
            for claim in claims_of(pod):
                users.setdefault(claim, []).append(pod["metadata"]["name"])
        for claim, names in users.items():
            if len(names) > 1:
                self.violations.append(f"the claim {claim} is used by {names}")
        alive = {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
        self._look_for_stale(workspaces, alive)

    def _look_for_stale(self, workspaces: list[Object], alive: set[str]) -> None:
        """A pod that ends may be reported ready only for as long as it takes to see its end."""
        now = time.monotonic()
        seen: dict[tuple[str, str], float] = {}
        for workspace in workspaces:
            status = workspace.get("status", {})
            pod, name = status.get("podUID"), workspace["metadata"]["name"]
            if is_ready(status) and pod is not None and pod not in alive:
                since = seen[name, pod] = self._stale.get((name, pod), now)
                if now - since > STALE_SECONDS:
                    self.violations.append(f"{name} is reported ready {now - since:.1f} s after its pod {pod} ended")
        self._stale = seen


def claims_of(pod: Object) -> list[str]:
    """The claims that a pod mounts."""
    volumes = pod["spec"].get("volumes", [])
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]


def is_ready(status: Object) -> bool:
    """Whether the report says that the workspace is ready."""
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions", []))


def disturb(workspace: Workspace, chance: random.Random) -> str:
    """One disturbance. That somebody else was quicker is part of the test."""
    kubectl, name = workspace.kubectl, workspace.name
    what = chance.choice(["suspend", "suspend", "touch", "delete", "delete the pod", "auto"])
    try:
        if what == "suspend":
            kubectl.patch("uws", name, {"spec": {"operatingMode": "Suspended"}})
            time.sleep(chance.random())
            kubectl.patch("uws", name, {"spec": {"operatingMode": "Auto"}})
        elif what == "auto":
            kubectl.patch("uws", name, {"spec": {"operatingMode": "Auto", "idleTimeout": "5s"}})
        elif what == "touch":
            kubectl.run("annotate", "uws", name, "--overwrite", f"dexorder.io/touched-at={time.time_ns()}")
        elif what == "delete":
            kubectl.run("delete", "uws", name, "--wait=false")
        else:
            kubectl.run("delete", "pod", workspace.child, "--wait=false")
    except KubectlError as error:
        if "not found" not in str(error).lower().replace("notfound", "not found"):
            raise
        return f"{what} (gone)"
    return what


def read_count(user: User) -> dict[str, Any] | None:
    """The file's content, or None while the workspace is not there."""
    try:
        return user.mcp.call("read_file", path="count.txt")
    except (RefusedError, httpx2.TransportError):
        return None


def git(user: User, *command: str) -> list[str] | None:
    """What git says in the agent, or None while a last stop goes on; asking wakes the workspace."""
    try:
        user.mcp.tools()
        return [user.workspace.in_agent("git", "-C", "/workspace/repository", *command)]
    except (RefusedError, httpx2.TransportError, KubectlError):
        return None


def test_nothing_is_wrong_lost_or_doubled_whatever_happens_when(new_user: Callable[[], User], kubectl: Kubectl) -> None:
    chance = random.Random(SEED)
    print(f"RACE_SEED={SEED}")
    users = [new_user() for _ in range(WORKSPACES)]
    clients = [Client(user) for user in users]
    # The gateway makes the workspace, under the name that it would use again.
    for user in users:
        user.mcp.tools()
    workspaces = [user.workspace for user in users]
    watcher = Watcher(kubectl)
    watcher.start()
    for client in clients:
        client.start()
    done: Counter[str] = Counter()
    try:
        for _ in range(ROUNDS):
            done[disturb(chance.choice(workspaces), chance)] += 1
            time.sleep(chance.expovariate(1 / GAP))
    finally:
        for client in clients:
            client.end()
        for client in clients:
            client.join()
    # What may still be asked to stop by a disturbance, or to stop soon, is kept awake for the last look.
    for workspace in workspaces:
        if kubectl.get("uws", workspace.name) is not None:
            workspace.change(operatingMode="Running")
    try:
        for client, user in zip(clients, users, strict=True):
            client.check(eventually(f"{user.id} is answered", partial(read_count, user), within=90))
    finally:
        watcher.end()
    answers = sum((client.answers for client in clients), Counter[str]())
    print(f"{dict(done)}; answers {dict(answers)}; {watcher.looks} looks")
    assert not watcher.violations, watcher.violations[:5]
    assert not any(client.wrong for client in clients), [client.wrong[:3] for client in clients if client.wrong]
    assert answers["right"] >= WORKSPACES, answers
    for user in users:
        for question in (["fsck", "--no-dangling"], ["status", "--porcelain"]):
            assert eventually(f"git {question} of {user.id}", partial(git, user, *question), within=90) == [""]
