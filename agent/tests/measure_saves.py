"""Measures acknowledged saves a second, one after the other and by many writers at once: measure_saves.py [SECONDS [WRITERS]]."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path

from dexorder_agent.repo.repository import Repository


async def measure(repository: Repository, writers: int, seconds: float) -> tuple[float, int]:
    """Saves a second, and the commits that they took."""
    numbers = itertools.count(1)
    done = 0
    before = int(await repository.git.run("rev-list", "--count", "HEAD"))
    started = time.perf_counter()

    async def write(writer: int) -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            await repository.change("Write a note", {f"notes/{writer}.md": f"{next(numbers)}\n".encode()})
            done += 1

    await asyncio.gather(*(write(writer) for writer in range(writers)))
    took = time.perf_counter() - started
    return done / took, int(await repository.git.run("rev-list", "--count", "HEAD")) - before


async def main() -> None:
    """Print both figures."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository(Path(folder) / "repository", "measure")
        await repository.open()
        for writers in (1, most):
            rate, commits = await measure(repository, writers, seconds)
            print(f"{writers} writers: {rate:.0f} saves/s in {commits} commits")
        await repository.git.run("fsck", "--strict")


if __name__ == "__main__":
    asyncio.run(main())
