"""The real sidecar, an MCP server in its agent's place, and a gateway that may be hostile."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from dexorder_direct.encoding import encode
from dexorder_direct.hashing import hash_password

UID = "0b9f6c1e-uid"
USER = "fund1"
PASSWORD = "correct horse battery staple"
PATH = "/workspaces/fund1"
SOON = 240.0


class Served:
    """An ASGI application in a thread of its own, on a port or a socket."""

    def __init__(self, app: Any, **where: Any) -> None:
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, **where)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> Served:
        self.thread.start()
        wait_until(lambda: self.server.started, "the server never started")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(SOON)

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])


class Agent:
    """A small MCP server, and the lifecycle calls of the agent."""

    def __init__(self) -> None:
        self.users: list[str] = []
        server = MCPServer("agent")

        @server.tool()
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        inner = server.streamable_http_app(transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))

        async def status(_: Request) -> Response:
            return JSONResponse({"ready": True, "busy": [], "commit": "c0"})

        async def save(_: Request) -> Response:
            return JSONResponse({"commit": "c0", "clean": True})

        async def noted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                headers = dict(scope["headers"])
                self.users.append(headers.get(b"dexorder-user", b"").decode())
                assert b"authorization" not in headers
                assert b"dexorder-proof" not in headers
            await inner(scope, receive, send)

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with inner.router.lifespan_context(inner):
                yield

        self.app = Starlette(
            routes=[Route("/lifecycle/status", status), Route("/lifecycle/save", save, methods=["POST"]), Mount("/", noted)],
            lifespan=lifespan,
        )


class Sidecar:
    """The real program in mode Direct, with a password of its user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gateway, operator = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        keys = {"gateway": [jwk(self.gateway)], "operator": [jwk(operator)]}
        (folder / "identity-keys").write_text(json.dumps(keys))
        (folder / "keys").mkdir()
        (folder / "hashes").mkdir()
        (folder / "hashes" / USER).write_text(hash_password(PASSWORD))
        self.process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> None:
        environment = {
            "DEXORDER_WORKSPACE_UID": UID,
            "DEXORDER_WORKSPACE": "fund1",
            "DEXORDER_NAMESPACE": "dexorder",
            "DEXORDER_USER_ID": USER,
            "DEXORDER_AUTH_MODE": "Direct",
            "DEXORDER_ACCESS": "Full",
            "DEXORDER_AGENT_SOCKET": str(self.folder / "agent.sock"),
            "DEXORDER_IDENTITY_KEYS_FILE": str(self.folder / "identity-keys"),
            "DEXORDER_MCP_ADDR": "127.0.0.1:0",
            "DEXORDER_CONTROL_ADDR": "127.0.0.1:0",
            "DEXORDER_DIRECT_KEY_DIR": str(self.folder / "keys"),
            "DEXORDER_DIRECT_CREDENTIALS_DIR": str(self.folder / "hashes"),
        }
        binary = os.environ["DEXORDER_SIDECAR_BINARY"]
        self.process = subprocess.Popen([binary], env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said["message"] == "serving":
                self.port = int(said["mcp"].rsplit(":", 1)[1])
                break
        assert self.port, "the sidecar did not start"
        # What it says later must not fill the pipe.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(SOON)
            self.process = None

    def identity(self) -> str:
        """What the gateway says of each request."""
        now = int(time.time())
        claims = {"iss": "dexorder-gateway", "aud": UID, "sub": "gateway", "iat": now, "exp": now + 60, "jti": os.urandom(8).hex()}
        header = {"alg": "EdDSA", "typ": "JWT", "kid": jwk(self.gateway)["kid"]}
        text = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        return f"{text}.{encode(self.gateway.sign(text.encode()))}"


class Gateway:
    """Passes on what it is sent, keeps all of it, and shows a key of its own if it is told to."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.seen: list[tuple[str, str, bytes]] = []
        self.shown_key: dict[str, str] | None = None
        self.url = ""
        self.app = Starlette(routes=[Route(PATH + "/{rest:path}", self._pass, methods=["GET", "POST", "DELETE"])])

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.seen]

    async def _pass(self, request: Request) -> Response:
        body = await request.body()
        path = "/" + request.path_params["rest"]
        self.seen.append((request.method, path, body))
        headers = {name: content for name, content in request.headers.items() if name not in ("host", "content-length", "connection")}
        headers["dexorder-identity"] = self.sidecar.identity()
        client = httpx2.AsyncClient(timeout=httpx2.Timeout(30, read=None))
        url = f"http://127.0.0.1:{self.sidecar.port}{path}"
        response = await client.send(client.build_request(request.method, url, headers=headers, content=body), stream=True)
        if path == "/direct/key" and self.shown_key is not None:
            document = json.loads(await response.aread())
            await client.aclose()
            return JSONResponse(document | {"keys": [self.shown_key]})

        async def stream() -> AsyncIterator[bytes]:
            try:
                async for chunk in response.aiter_raw():
                    yield chunk
            finally:
                await response.aclose()
                await client.aclose()

        kept = {name: content for name, content in response.headers.items() if name not in ("content-length", "transfer-encoding")}
        return StreamingResponse(stream(), response.status_code, kept)


def jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    public = key.public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "x": encode(public), "kid": hashlib.sha256(public).hexdigest()[:16]}


def wait_until(holds: Any, otherwise: str) -> None:
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


def run(coroutine: Any) -> Any:
    """Run a test's own coroutine, for a while at most."""

    async def limited() -> Any:
        return await asyncio.wait_for(coroutine, SOON)

    return asyncio.run(limited())


@contextlib.contextmanager
def world(folder: Path) -> Iterator[tuple[Gateway, Sidecar, Agent]]:
    agent, sidecar = Agent(), Sidecar(folder)
    gateway = Gateway(sidecar)
    with Served(agent.app, uds=str(folder / "agent.sock")):
        sidecar.start()
        try:
            with Served(gateway.app, host="127.0.0.1", port=0) as served:
                gateway.url = f"http://127.0.0.1:{served.port}{PATH}"
                yield gateway, sidecar, agent
        finally:
            sidecar.stop()
