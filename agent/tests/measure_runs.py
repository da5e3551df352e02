"""Measures what running an indicator of a new workspace takes on the series that comes with it: measure_runs.py [RUNS].

The first run, which starts the warm process, and those after it: in the sandbox alone, and from the client's call to its answer.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from support import Agent, Connection, wait_until

INDICATORS = ("sma", "rsi", "macd")


def run(agent: Agent, name: str, over: Connection) -> tuple[float, float]:
    """Milliseconds in the sandbox and of the whole call."""
    began = time.perf_counter()
    result = agent.ask("tools/call", {"name": "run_indicator", "arguments": {"name": name, "last": 1}}, over=over)
    took = (time.perf_counter() - began) * 1000
    assert not result["isError"], result
    return float(result["structuredContent"]["milliseconds"]), took


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder)).start()
        wait_until(lambda: agent.status()["commit"])
        connection = Connection(agent.socket)
        _, first = run(agent, INDICATORS[0], connection)
        print(f"the first run, with the start of the warm process: {first:.0f} ms")
        for name in INDICATORS:
            inside, whole = (sorted(times) for times in zip(*(run(agent, name, connection) for _ in range(runs)), strict=True))
            print(
                f"{name}: {statistics.median(inside):.1f} ms (least {inside[0]:.1f}, p90 {inside[int(runs * 0.9)]:.1f}), "
                f"the whole call {statistics.median(whole):.1f} ms (least {whole[0]:.1f})"
            )
        agent.stop()


if __name__ == "__main__":
    main()
