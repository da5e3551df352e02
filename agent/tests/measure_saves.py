"""Measures acknowledged saves a second, one after the other and by many writers at once: measure_saves.py [SECONDS [WRITERS]].

First by calls of the repository, then by tool calls of so many clients over the agent's socket.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path

from support import Agent, Connection, wait_until

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


def measure_calls(agent: Agent, clients: int, seconds: float) -> float:
    """Saves a second by tool calls, each client waiting for its answer before it asks again."""
    answered: list[None] = []
    ends = time.perf_counter() + seconds

    def write(client: int) -> None:
        connection = Connection(agent.socket)
        for number in itertools.count():
            if time.perf_counter() > ends:
                return
            arguments = {"path": f"notes/{client}.md", "content": f"{number}\n"}
            result = agent.ask("tools/call", {"name": "write_file", "arguments": arguments}, over=connection)
            assert not result["isError"], result
            answered.append(None)

    writers = [threading.Thread(target=write, args=(client,)) for client in range(clients)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return len(answered) / seconds


async def main() -> None:
    """Print the figures."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository(Path(folder) / "repository", "measure")
        await repository.open()
        for writers in (1, most):
            rate, commits = await measure(repository, writers, seconds)
            print(f"{writers} writers: {rate:.0f} saves/s in {commits} commits")
        await repository.git.run("fsck", "--strict")
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder)).start()
        wait_until(lambda: agent.status()["commit"])
        for clients in (1, 8, 32):
            rate = await asyncio.to_thread(measure_calls, agent, clients, seconds)
            print(f"{clients} clients: {rate:.0f} saves/s by tool calls")
        agent.stop()
        agent.git("fsck", "--strict")


if __name__ == "__main__":
    asyncio.run(main())
