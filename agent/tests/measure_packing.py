"""Measures what many commits cost, before and after they are packed: measure_packing.py [COMMITS [ROUNDS]].

Three repositories in turns: one of a new user, one of so many commits with each object a file of its own, and the same packed. For each:
the time from the start of the process to the first answer, the first save after it, the saves after that, and the history of one file.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support import Agent, wait_until

from dexorder_agent.repo.git import Git
from dexorder_agent.repo.pack import Packer, count_loose

SAVES = 20


def stream(commits: int) -> Iterator[bytes]:
    """Commits for git fast-import: turns of conversations, which grow, and notes."""
    conversations: dict[int, bytes] = {}
    yield b"feature done\n"
    for number in range(commits):
        if number % 2:
            which = number // 40 % 20
            turn = b'{"key": "t-%d", "role": "user", "content": "what is the value of the indicator at bar %d?"}\n' % (number, number)
            content = conversations[which] = (conversations.get(which, b"") + turn)[-20_000:]
            path = b"conversations/c-%d.jsonl" % which
        else:
            content, path = b"%d\n" % number, b"notes/%d.md" % (number % 7)
        yield b"commit refs/heads/main\ncommitter measure <m@example.org> %d +0000\ndata 5\nWrite\n" % (1_700_000_000 + number)
        if number == 0:
            yield b"from refs/heads/main^0\n"
        yield b"M 100644 inline %s\ndata %d\n%s\n" % (path, len(content), content)
    yield b"done\n"


def fill(root: Path, commits: int) -> None:
    """Add the commits, each object a file."""
    git = Git(root, "measure")
    environment = {**git.environment, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}

    def run(*command: str, **named: Any) -> None:
        subprocess.run(["git", *command], cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL, **named)

    run("-c", "fastimport.unpackLimit=0", "fast-import", "--quiet", input=b"".join(stream(commits)))
    for pack in (root / ".git/objects/pack").glob("*.pack"):
        # What is in a pack already is not unpacked.
        away = pack.rename(root / ".git" / pack.name)
        pack.with_suffix(".idx").unlink()
        run("unpack-objects", "-q", input=away.read_bytes())
        away.unlink()
    run("reset", "--quiet", "--hard")


class Measured:
    """An agent over one repository, and its times in milliseconds."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.agent = Agent(folder)
        self.times: dict[str, list[float]] = {"first answer": [], "first save": [], "save": [], "history of a file": []}

    def round(self) -> None:
        """Start, ask, save, look, stop."""
        agent = self.agent
        began = time.perf_counter()
        agent.start()
        agent.ask("resources/read", {"uri": "context://user-profile"})
        self.times["first answer"].append((time.perf_counter() - began) * 1000)
        self.take("first save", self.save)
        for _ in range(SAVES):
            self.take("save", self.save)
        self.take("history of a file", lambda: self.call("history_log", path="README.md"))
        assert agent.stop() == 0

    def take(self, what: str, step: Callable[[], None]) -> None:
        """Add the time of a step."""
        began = time.perf_counter()
        step()
        self.times[what].append((time.perf_counter() - began) * 1000)

    def save(self) -> None:
        """A small save."""
        self.call("write_file", path="notes/measured.md", content=f"{time.time_ns()}\n")

    def call(self, tool: str, **arguments: Any) -> None:
        """A call that must succeed."""
        result = self.agent.ask("tools/call", {"name": tool, "arguments": arguments})
        assert not result["isError"], result


def main() -> None:
    """Make the repositories, measure, print."""
    commits = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measured = [Measured(name, folder / name) for name in ("new", "loose", "packed")]
        new, loose, packed = measured
        new.agent.folder.mkdir()
        new.agent.start()
        wait_until(lambda: new.agent.status()["commit"])
        new.agent.stop()
        shutil.copytree(new.agent.folder, loose.agent.folder)
        fill(loose.agent.repository, commits)
        shutil.copytree(loose.agent.folder, packed.agent.folder)
        began = time.perf_counter()
        asyncio.run(Packer(Git(packed.agent.repository, "measure")).pack())
        print(f"packing {commits} commits took {time.perf_counter() - began:.1f} s in the background")
        # The other repository of so many must not be packed meanwhile.
        loose.agent._environment["AGENT_PACK_AFTER"] = "1000000"
        for _ in range(rounds):
            for one in measured:
                one.round()
        for one in measured:
            size = sum(path.stat().st_blocks for path in (one.agent.repository / ".git/objects").rglob("*")) / 2048
            print(f"{one.name}: {count_loose(one.agent.repository / '.git/objects')} loose objects, {size:.0f} MiB")
            for what, times in one.times.items():
                print(f"  {what}: {statistics.median(times):.1f} ms (least {min(times):.1f})")
            one.agent.git("fsck", "--strict")


if __name__ == "__main__":
    main()
