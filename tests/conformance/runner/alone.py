"""Runs the suite against the agent alone, over its socket: no cluster, no gateway.

alone.py [REVISION ...], with the Python of the agent's environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner import offered, suite

START_SECONDS = 30.0


def main() -> int:
    """Run, print, and return the exit status."""
    failed = 0
    for revision in sys.argv[1:] or offered.SCENARIOS:
        with agent() as socket, suite.address(str(socket), names=offered.NAMES) as url:
            offered.prepare(f"{url}/mcp")
            results = suite.FOLDER / "results" / f"{revision}-alone"
            shutil.rmtree(results, ignore_errors=True)
            result = suite.run(f"{url}/mcp", revision, results, offered.SCENARIOS[revision], offered.NEED_A_TOOL)
        held = [scenario for scenario in result.required if scenario.holds]
        checks = sum(scenario.passed for scenario in result.required)
        print(f"{revision}: {len(held)} of {len(result.required)} scenarios that apply to the agent pass, {checks} checks")
        for scenario in result.failures:
            print(f"FAILED {revision}: {scenario.name} ({scenario.passed} checks passed, {scenario.failed} failed)")
        failed += len(result.failures)
    return 1 if failed else 0


@contextmanager
def agent() -> Iterator[Path]:
    """An agent with a new repository; its socket."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "agent.sock"
        environment = {
            "PATH": os.environ["PATH"],
            "DEXORDER_REPOSITORY": f"{folder}/repository",
            "DEXORDER_ENVIRONMENT": f"{folder}/environment",
            "DEXORDER_AGENT_SOCKET": str(socket),
        }
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "dexorder_agent"], env=environment, stderr=log)
        try:
            ends = time.monotonic() + START_SECONDS
            while not socket.exists():
                if process.poll() is not None or time.monotonic() > ends:
                    raise RuntimeError(f"the agent did not start: {(Path(folder) / 'log').read_text()}")
                time.sleep(0.01)
            yield socket
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


if __name__ == "__main__":
    sys.exit(main())
