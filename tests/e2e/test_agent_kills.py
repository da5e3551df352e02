"""No acknowledged write of a user is lost, however often the pod is killed in the middle of writes."""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import TYPE_CHECKING

import httpx2

from support.mcp_http import RefusedError, ToolError
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.users import User

WRITERS = 6
KILLS = 4
LEAST = 200


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


def test_no_acknowledged_write_is_lost_when_the_pod_is_killed_again_and_again(user: User) -> None:
    user.mcp.read("context://user-profile")
    workspace = user.workspace
    numbers = itertools.count(1)
    chance = random.Random(11)
    writers = [Writer(user, f"w{number}", numbers) for number in range(WRITERS)]
    for writer in writers:
        writer.start()

    def count() -> int:
        return sum(len(writer.commits) for writer in writers)

    def wait_for_writes(wanted: int) -> None:
        eventually(f"{wanted} writes", lambda: count() >= wanted, within=120)

    try:
        for _ in range(KILLS):
            wait_for_writes(count() + chance.randint(10, LEAST // KILLS))
            time.sleep(chance.uniform(0, 0.2))
            before = workspace.pod_uid
            assert before is not None
            workspace.kubectl.run("delete", "pod", workspace.child, "--grace-period=0", "--force")
        wait_for_writes(LEAST)
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
    history = set(workspace.in_agent("git", "-C", "/workspace/repository", "rev-list", "HEAD").split())
    assert {last["commit"], *(commit for writer in writers for commit in writer.commits)} <= history
    workspace.in_agent("git", "-C", "/workspace/repository", "fsck", "--strict", "--no-dangling")
    assert workspace.in_agent("git", "-C", "/workspace/repository", "status", "--porcelain") == ""
