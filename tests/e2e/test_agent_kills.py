"""No acknowledged write of a user is lost, whatever is killed in the middle: agent, pod, the containerd of the node.

The repository is packed all the while, far more often than usual, so that kills hit that too.
"""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from support.kubectl import KubectlError
from support.mcp_http import RefusedError, ToolError
from support.processes import signal_first
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.users import User
    from support.workspace import Workspace

KILL_CONTAINERD = Path(__file__).resolve().parents[1] / "cluster" / "kill-containerd"
WRITERS = 6
LEAST = 400
MOST_BETWEEN = 60
"""So many writes at most are acknowledged between two kills, where they come one by one."""
PACK_AFTER = "2"
GIT = ("git", "-C", "/workspace/repository")


def kill_pod(workspace: Workspace) -> None:
    """Take the pod away without notice."""
    workspace.kubectl.run("delete", "pod", workspace.child, "--grace-period=0", "--force")


def kill_agent(workspace: Workspace) -> None:
    """Kill the agent's process from the node; its container is started again."""
    before = eventually("a container to kill", lambda: agent_container(workspace), within=60)
    signal_first(before, signal.SIGKILL)
    eventually("another container", lambda: agent_container(workspace) not in ("", before), within=60)


def agent_container(workspace: Workspace) -> str:
    """The ID of the agent's container that runs."""
    statuses = ((workspace.pod or {}).get("status", {})).get("containerStatuses", [])
    running = [entry for entry in statuses if entry["name"] == "agent" and "running" in entry["state"]]
    return str(running[0]["containerID"]).partition("://")[2] if running else ""


def kill_containerd(_: Workspace) -> None:
    """Kill the node's containerd and wait until the node is ready again."""
    subprocess.run([str(KILL_CONTAINERD)], check=True, timeout=180)


KILLS = (kill_agent, kill_pod, kill_containerd) * 3
"""Each in turn: the kubelet lets a container that ends again and again wait."""


def wait_for_order(workspace: Workspace, *options: str) -> None:
    """Wait until git finds nothing to complain of.

    What is lost does not come back; but a container may just be ending, and fsck miss what is packed while it looks.
    Of what is committed while it looks it misses the objects and sees the reflog: that is checked at rest.
    """

    def in_order() -> bool:
        try:
            workspace.in_agent(*GIT, "fsck", "--strict", "--no-dangling", *options)
        except KubectlError:
            return False
        return True

    eventually("a repository that git finds in order", in_order, within=60)


class Writer(threading.Thread):
    """Writes numbered notes until it is told to stop, and keeps what was acknowledged."""

    def __init__(self, user: User, name: str, numbers: Iterator[int]) -> None:
        super().__init__(daemon=True)
        self._mcp = user.mcp
        self._label = name
        self._numbers = numbers
        self.over = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.commits: list[str] = []

    def run(self) -> None:
        for number in self._numbers:
            if self.over.is_set():
                return
            path = f"notes/{self._label}-{number % 3}.md"
            try:
                saved = self._mcp.call("write_file", path=path, content=f"{number}\n")
            except (RefusedError, ToolError, httpx2.HTTPError, ValueError):
                # Not acknowledged: it may be there or not.
                time.sleep(0.05)
                continue
            self.acknowledged[path] = number
            self.commits.append(saved["commit"])


def test_no_acknowledged_write_is_lost_whatever_is_killed(user: User) -> None:
    workspace = user.make_workspace(template={"env": [{"name": "AGENT_PACK_AFTER", "value": PACK_AFTER}]})
    user.mcp.read("context://user-profile")
    numbers = itertools.count(1)
    chance = random.Random(11)  # Moments of kills, the same in each run
    writers = [Writer(user, f"w{number}", numbers) for number in range(WRITERS)]
    for writer in writers:
        writer.start()

    def count() -> int:
        return sum(len(writer.commits) for writer in writers)

    def wait_for_writes(wanted: int) -> None:
        eventually(f"{wanted} writes", lambda: count() >= wanted, within=120)

    before: Counter[str] = Counter()
    try:
        for kill in KILLS:
            known = count()
            wait_for_writes(known + chance.randint(5, MOST_BETWEEN))
            time.sleep(chance.uniform(0, 0.2))
            before[kill.__name__.removeprefix("kill_")] += count() - known
            kill(workspace)
            wait_for_writes(count() + 1)
            wait_for_order(workspace, "--no-reflogs")
        wait_for_writes(max(LEAST, count() + 10))
    finally:
        for writer in writers:
            writer.over.set()
    for writer in writers:
        writer.join(90)

    last = user.mcp.call("write_file", path="notes/last.md", content="last\n")
    for writer in writers:
        for path, number in writer.acknowledged.items():
            kept = int(user.mcp.call("read_file", path=path)["content"])
            assert kept >= number, f"{path} holds {kept}, acknowledged was {number}"
    history = set(workspace.in_agent(*GIT, "rev-list", "HEAD").split())
    acknowledged = {last["commit"], *(commit for writer in writers for commit in writer.commits)}
    assert acknowledged <= history
    wait_for_order(workspace)
    assert workspace.in_agent(*GIT, "status", "--porcelain") == ""
    assert ".pack" in workspace.in_agent("ls", "/workspace/repository/.git/objects/pack")
    kills = Counter(kill.__name__.removeprefix("kill_") for kill in KILLS)
    print(f"{count()} acknowledged writes in {len(history)} commits, none lost")
    for kind, times in kills.items():
        print(f"  {kind} killed {times} times, in the middle of {before[kind]} of them")
