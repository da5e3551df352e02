"""Runs inside an agent's container: times the agent from its start to its first MCP answer, and measures it at rest.

Prints the seconds of each round and the memory in MiB as one line of JSON. It uses the standard library alone, and what
the container's own agent was started with.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

ROOT = Path("/tmp/agent-alone")  # noqa: S108 - the container's own scratch volume
SOCKET = ROOT / "agent.sock"
REVISION = "2026-07-28"
REST_SECONDS = 3.0


class UnixConnection(HTTPConnection):
    """HTTP over the agent's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(SOCKET))


def command() -> list[str]:
    """What the container's agent was started with."""
    return [part.decode() for part in Path("/proc/1/cmdline").read_bytes().split(b"\0") if part]


def answered() -> bool:
    """Whether the agent lists its tools."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": "tools/list",
    }
    connection = UnixConnection("localhost", timeout=30)
    try:
        connection.request("POST", "/mcp", body, headers)
        return b"run_indicator" in connection.getresponse().read()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    finally:
        connection.close()


def at_rest(pid: int) -> float:
    """The memory of the agent and what came from it, shared pages counted once, when its start is over."""
    time.sleep(REST_SECONDS)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    rollups = [Path(f"/proc/{process}/smaps_rollup").read_text() for process in (pid, *children)]
    return (
        sum(int(line.split()[1]) for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:"))
        / 1024
    )


def one_start() -> tuple[float, float]:
    """Start the agent, ask until it answers, look at it when it rests, stop it; the seconds and the memory."""
    environment = {
        **os.environ,
        "DEXORDER_AGENT_SOCKET": str(SOCKET),
        "DEXORDER_REPOSITORY": str(ROOT / "repository"),
    }
    began = time.perf_counter()
    agent = subprocess.Popen(command(), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not answered():
            if agent.poll() is not None:
                message = f"the agent ended with {agent.returncode}"
                raise RuntimeError(message)
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        return seconds, at_rest(agent.pid)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(timeout=30)
        SOCKET.unlink(missing_ok=True)


def main() -> None:
    """Time so many rounds as the argument says."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    shutil.copytree(os.environ["DEXORDER_REPOSITORY"], ROOT / "repository")
    rounds = [one_start() for _ in range(int(sys.argv[1]))]
    shutil.rmtree(ROOT)
    print(json.dumps({"seconds": [seconds for seconds, _ in rounds], "memory_mib": [memory for _, memory in rounds]}))


if __name__ == "__main__":
    main()
