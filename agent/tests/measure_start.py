"""Measures the time from the start of the process to the first answered MCP request, and the memory of the idle agent after it:
measure_start.py [RUNS [PYTHON]].

The repository exists already, as it does when a suspended workspace comes back. One line for each kind of first request.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support import Agent, wait_until

FIRST: dict[str, dict[str, Any]] = {
    "resources/read": {"uri": "context://user-profile"},
    "tools/list": {},
    "tools/call": {"name": "run_indicator", "arguments": {"name": "rsi", "last": 1}},
}


def main() -> None:
    """Start the agent again and again."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    if len(sys.argv) > 2:
        sys.executable = sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder)).start()
        wait_until(lambda: agent.status()["commit"])
        agent.stop()
        for method, params in FIRST.items():
            walls, processor, memory = [], [], []
            for _ in range(runs):
                started = time.perf_counter()
                agent.start()
                agent.ask(method, params)
                walls.append((time.perf_counter() - started) * 1000)
                processor.append(agent.processor_ms())
                time.sleep(3)
                memory.append(agent.memory_mib())
                agent.stop()
            walls.sort()
            print(
                f"{method}: {statistics.median(walls):.0f} ms (median of {runs}; {walls[0]:.0f} to {walls[-1]:.0f}), "
                f"{statistics.median(processor):.0f} ms of processor time, then {statistics.median(memory):.1f} MiB"
            )


if __name__ == "__main__":
    main()
