"""A running agent, and the official client that talks to it over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from dexorder_agent.tools import listing

MODERN, LEGACY = "2026-07-28", "legacy"

SCHEMAS = {tool["name"]: jsonschema.Draft202012Validator(tool["outputSchema"]) for tool in json.loads(listing.FILE.read_bytes())}
"""What the results of the tools look like."""


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The condition's value as soon as it is true."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("the condition didn't come true")
        time.sleep(0.005)


def slowness(clock: Callable[[], float] = time.process_time) -> float:
    """How much slower than usual this machine is just now, at least 1: its processor alone, or with `perf_counter` what else runs too."""
    started = clock()
    kept = {}
    for number in range(150_000):
        kept[number % 1000] = (number, str(number))
    return max(1.0, (clock() - started) / 0.025)


class Connection(http.client.HTTPConnection):
    """HTTP over an agent's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        """Reach the agent."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Agent:
    """An agent process with a repository in a folder of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.socket = folder / "agent.sock"
        self._environment = environment
        self.under: list[str] = []
        """A command that runs the agent's."""
        self.python = sys.executable
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Agent:
        """Start the process and wait for its socket."""
        self.socket.unlink(missing_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",
            "DEXORDER_REPOSITORY": str(self.repository),
            "DEXORDER_AGENT_SOCKET": str(self.socket),
            "DEXORDER_ENVIRONMENT": str(self.folder / "environment"),
            "DEXORDER_USER_ID": "trader1",
            **self._environment,
        }
        with (self.folder / "log").open("ab") as log:
            command = [*self.under, self.python, "-m", "dexorder_agent"]
            self.process = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)
        process = self.process

        def answering() -> bool:
            assert process.poll() is None, (self.folder / "log").read_text()
            return self.socket.exists()

        wait_until(answering)
        return self

    def kill(self) -> None:
        """End the process and all that it started, as when a container is killed."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask the process to end; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def request(
        self, method: str, path: str, body: bytes | None = None, over: Connection | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """One plain HTTP request, over a connection that is kept or one of its own."""
        connection = over or Connection(self.socket)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            if over is None:
                connection.close()

    def ask(self, method: str, params: dict[str, Any], user: str = "", over: Connection | None = None) -> dict[str, Any]:
        """One request of the newest protocol revision without the official client, which takes longer than the agent."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method, "Mcp-Name": str(params.get("uri") or params.get("name") or ""), "dexorder-user": user,
        }  # fmt: skip
        code, answer = self.request("POST", "/mcp", json.dumps(body).encode(), over, **{k: v for k, v in headers.items() if v})
        decoded = dict(json.loads(answer))
        assert code == 200 and "result" in decoded, answer
        return dict(decoded["result"])

    def status(self) -> dict[str, Any]:
        """What the sidecar sees."""
        code, body = self.request("GET", "/lifecycle/status")
        assert code == 200
        return dict(json.loads(body))

    def processes(self) -> list[int]:
        """The agent's process and all that came from it."""
        assert self.process is not None
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            try:
                todo += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except FileNotFoundError:
                continue
            found.append(pid)
        return found

    def memory_mib(self) -> float:
        """What the agent's processes take, shared pages counted once."""
        kilobytes = 0
        for pid in self.processes():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            kilobytes += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return kilobytes / 1024

    def processor_ms(self) -> float:
        """The processor time that the agent itself has used."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e6

    def git(self, *command: str) -> str:
        """Run the machine's git on the repository."""
        result = subprocess.run(
            ["git", "-c", "safe.directory=*", *command], cwd=self.repository, check=False, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    @contextlib.asynccontextmanager
    async def client(self, mode: str = MODERN) -> AsyncIterator[Client]:
        """The official client, in the newest protocol revision or with the old handshake."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
        async with (
            httpx2.AsyncClient(transport=transport, timeout=60) as http_client,
            Client(streamable_http_client("http://localhost/mcp", http_client=http_client), mode=mode, cache=None) as client,
        ):
            yield client

    async def call(self, tool: str, mode: str = MODERN, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that is expected to succeed; its structured result, which must be as the tool's schema says."""
        if mode == MODERN:
            result = await asyncio.to_thread(self.ask, "tools/call", {"name": tool, "arguments": arguments})
            assert not result["isError"], result["content"]
            structured = dict(result["structuredContent"])
            SCHEMAS[tool].validate(structured)
            return structured
        async with self.client(mode) as client:
            answer = await client.call_tool(tool, arguments)
        assert not answer.is_error, answer.content
        assert answer.structured_content is not None
        return dict(answer.structured_content)

    async def fails(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that is expected to give an error; its text."""
        result = await asyncio.to_thread(self.ask, "tools/call", {"name": tool, "arguments": arguments})
        assert result["isError"], result
        return str(result["content"][0]["text"])

    async def read(self, uri: str, mode: str = MODERN) -> str:
        """The text of a resource."""
        if mode == MODERN:
            return str((await asyncio.to_thread(self.ask, "resources/read", {"uri": uri}))["contents"][0]["text"])
        async with self.client(mode) as client:
            result = await client.read_resource(uri)
        return str(getattr(result.contents[0], "text", ""))
