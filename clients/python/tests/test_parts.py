"""Headers, pins, hashes and the loopback proxy's own doors."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dexorder_direct import DirectAuth, DirectError, Password, headers, pins, thumbprint
from dexorder_direct.encoding import encode
from dexorder_direct.hashing import hash_password
from dexorder_direct.loopback import LoopbackProxy


def test_headers_mirror_a_message_of_the_newest_revision() -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    message = {"method": "tools/call", "params": {"name": "größe", "_meta": meta}}
    sent = headers.of(message, None, None)
    assert (sent["mcp-protocol-version"], sent["mcp-method"]) == ("2026-07-28", "tools/call")
    assert sent["mcp-name"] == "=?base64?Z3LDtsOfZQ==?="
    assert headers.of({"method": "resources/read", "params": {"uri": "a://b", "_meta": meta}}, None, None)["mcp-name"] == "a://b"


def test_headers_of_the_older_revision_follow_the_handshake() -> None:
    assert "mcp-session-id" not in headers.of({"method": "initialize", "params": {}}, "2025-11-25", "s")
    sent = headers.of({"method": "tools/list"}, "2025-11-25", "s")
    assert (sent["mcp-protocol-version"], sent["mcp-session-id"]) == ("2025-11-25", "s")


def test_a_pin_is_kept_and_the_one_before_stays(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "pins.json"
    assert pins.read(file, "https://a.example/workspaces/x") == []
    for pin in ("one", "two", "three", "three"):
        pins.add(file, "https://a.example/workspaces/x/mcp", pin)
    assert pins.read(file, "https://a.example/workspaces/x/") == ["three", "two"]
    assert pins.read(file, "https://a.example/workspaces/y") == []
    file.write_text("[]")
    with pytest.raises(DirectError):
        pins.read(file, "x")


def test_a_hash_is_of_the_kind_that_the_sidecar_takes() -> None:
    hashed = hash_password("secret")
    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", hashed)
    assert hash_password("secret") != hashed
    for bad in ("", "x" * 1025):
        with pytest.raises(ValueError, match="1024"):
            hash_password(bad)


def ask(proxy: LoopbackProxy, **request: Any) -> httpx2.Response:
    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=proxy)
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.request(**request)

    return asyncio.run(send())


def upstream(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"headers": dict(request.headers)}, headers={"mcp-session-id": "s", "x-other": "1"})


def test_the_loopback_proxy_takes_nothing_from_web_pages_and_passes_on_no_credential() -> None:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(upstream))
    proxy = LoopbackProxy(client, "https://gateway.example/workspaces/x/mcp", "local")
    good: dict[str, Any] = {
        "method": "POST",
        "url": "http://127.0.0.1:8765/mcp",
        "headers": {"authorization": "Bearer local", "cookie": "a=b", "mcp-method": "ping"},
        "json": {"id": 1},
    }
    answer = ask(proxy, **good)
    assert answer.status_code == 200
    assert (answer.headers["mcp-session-id"], answer.headers.get("x-other")) == ("s", None)
    passed = answer.json()["headers"]
    assert passed["mcp-method"] == "ping"
    assert "authorization" not in passed
    assert "cookie" not in passed
    for change, status in (
        ({"headers": {**good["headers"], "authorization": "Bearer wrong"}}, 401),
        ({"headers": {**good["headers"], "origin": "https://evil.example"}}, 403),
        ({"headers": {**good["headers"], "host": "evil.example"}}, 403),
        ({"url": "http://127.0.0.1:8765/other"}, 404),
        ({"json": None, "content": bytes(9 * 1024 * 1024)}, 413),
    ):
        assert ask(proxy, **{**good, **change}).status_code == status, change if status != 413 else status
    assert ask(proxy, **{**good, "headers": {**good["headers"], "origin": "http://localhost:3000"}}).status_code == 200


def test_a_workspace_that_can_not_be_reached_is_told_in_json() -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("nobody is there", request=request)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(fail))
    proxy = LoopbackProxy(client, "https://gateway.example/workspaces/x/mcp")
    answer = ask(proxy, method="POST", url="http://localhost:8765/mcp", content=json.dumps({"id": 5}))
    assert answer.status_code == 502
    assert (answer.json()["id"], "nobody is there" in answer.json()["error"]["message"]) == (5, True)


def test_a_workspace_that_is_starting_is_waited_for_and_signed_for_anew() -> None:
    asked: list[str] = []
    proofs: set[str] = set()
    key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    shown = {"kty": "OKP", "crv": "X25519", "x": encode(key)}

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path.rsplit("/", 1)[1])
        if asked.count(asked[-1]) == 1:
            return httpx2.Response(503, headers={"retry-after": "1"})
        now = int(time.time())
        if asked[-1] == "key":
            return httpx2.Response(200, json={"keys": [shown], "namespace": "n", "workspaceUid": "u", "run": "r", "time": now})
        if asked[-1] == "session":
            return httpx2.Response(200, json={"token": "t", "expiresAt": now + 3600, "run": "r", "time": now})
        proofs.add(request.headers["dexorder-proof"])
        return httpx2.Response(200)

    auth = DirectAuth("https://gateway.example/workspaces/x", "x", Password("secret"), [thumbprint(shown)])
    with httpx2.Client(auth=auth, transport=httpx2.MockTransport(answer)) as client:
        assert client.post(auth.mcp_url, json={"id": 1}).status_code == 200
    assert asked == ["key", "key", "session", "session", "mcp", "mcp"]
    assert len(proofs) == 1
