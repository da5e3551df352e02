"""Measures what keeping a turn takes as the gateway does it, two calls of append_conversation over one kept connection:
measure_turns.py [TURNS [SRC ...]].

Several source folders are measured in turns, one call each after the other, so that what else the machine does hits them alike.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from support import Agent, Connection, wait_until

HERE = Path(__file__).resolve().parents[1] / "src"
CALLS = ("append_conversation", "read_conversation", "list_conversations")


class Measured:
    """An agent of one source folder, and the times of its calls."""

    def __init__(self, folder: Path, source: Path) -> None:
        folder.mkdir()
        self.agent = Agent(folder, PYTHONPATH=str(source)).start()
        wait_until(lambda: self.agent.status()["commit"])
        self._connection = Connection(self.agent.socket)
        self._turns = 0
        self.walls: dict[str, list[float]] = {name: [] for name in CALLS}
        self.processor: dict[str, list[float]] = {name: [] for name in CALLS}

    def call(self, name: str, **arguments: object) -> None:
        """Call a tool and take the time."""
        before, began = self.agent.processor_ms(), time.perf_counter()
        result = self.agent.ask("tools/call", {"name": name, "arguments": arguments}, "trader1", self._connection)
        self.walls[name].append((time.perf_counter() - began) * 1000)
        self.processor[name].append(self.agent.processor_ms() - before)
        assert not result["isError"], result

    def turn(self) -> None:
        """Read what was kept, keep what the user said, keep what came of it; a new conversation every 20 turns."""
        conversation, key = f"c-{self._turns // 20}", f"t-{self._turns}"
        self._turns += 1
        self.call("read_conversation", conversation=conversation, last=1000)
        said = {"role": "user", "content": "say It is what it is.", "data": {"status": "open"}}
        self.call("append_conversation", conversation=conversation, idempotency_key=key, messages=[said], state="interrupted")
        answered = {"role": "assistant", "content": "It is what it is.", "data": {"status": "complete"}}
        usage = {"model": "m", "input_tokens": 100, "output_tokens": 10}
        self.call("append_conversation", conversation=conversation, idempotency_key=f"{key}.end", messages=[answered], usage=usage)
        self.call("list_conversations")


def main() -> None:
    """Measure and print, one line for each call and source folder."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    sources = [Path(argument).resolve() for argument in sys.argv[2:]] or [HERE]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        measured = [Measured(Path(folder) / str(number), source) for number, source in enumerate(sources)]
        for one in measured:
            ends.callback(one.agent.kill)
        order = list(measured)
        for number in range(-5, turns):
            random.shuffle(order)
            for one in order:
                one.turn()
            if number < 0:
                # The first fill caches.
                for one in measured:
                    for kept in (*one.walls.values(), *one.processor.values()):
                        kept.clear()
        for one, source in zip(measured, sources, strict=True):
            print(source)
            for name in CALLS:
                walls = sorted(one.walls[name])
                print(
                    f"  {name}: {statistics.median(walls):.1f} ms (p90 {walls[int(len(walls) * 0.9)]:.1f}, least {walls[0]:.1f}), "
                    f"{statistics.mean(one.processor[name]):.1f} ms of the agent's processor time"
                )
            one.agent.git("fsck", "--strict")
            assert one.agent.git("status", "--porcelain") == ""


if __name__ == "__main__":
    main()
