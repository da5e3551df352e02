"""News while a stream is open: changed resources, progress; and what its end does to the user's code."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import pytest
from mcp.shared.subscriptions import ResourceUpdated
from support import LEGACY, MODERN, Agent, wait_until

pytestmark = pytest.mark.anyio

ENDLESS = "def compute(close):\n    while True: pass\n"
SLOW = "import time\ndef compute(close):\n    time.sleep(1.2)\n    return close\n"


async def test_who_listens_hears_which_resources_a_change_changed(new_agent: Agent) -> None:
    new_agent.start()
    uris = ["context://user-profile", "indicators://list", "indicators://mine", "conversations://c1", "context://system-prompt"]
    async with new_agent.client() as client, client.listen(resource_subscriptions=uris) as heard:
        await new_agent.call("set_user_profile", text="Trades copper.")
        assert await anext(heard) == ResourceUpdated(uri="context://user-profile")
        await new_agent.call("save_indicator", name="mine", source="def compute(close): return close\n")
        assert {(await anext(heard)).uri, (await anext(heard)).uri} == {"indicators://list", "indicators://mine"}  # type: ignore[union-attr]
        await new_agent.call("append_conversation", messages=[{"role": "user", "content": "hi"}], idempotency_key="1", conversation="c1")
        assert await anext(heard) == ResourceUpdated(uri="conversations://c1")
        # What changes nothing is no news, what a person changed by hand is.
        await new_agent.call("set_user_profile", text="Trades copper.")
        (new_agent.repository / "context/system-prompt.md").write_text("By hand.\n")
        new_agent.request("POST", "/lifecycle/save")
        assert await anext(heard) == ResourceUpdated(uri="context://system-prompt")


async def test_an_orderly_end_ends_the_streams_too(new_agent: Agent) -> None:
    new_agent.start()
    async with new_agent.client() as client, client.listen(resource_subscriptions=["indicators://list"]) as heard:
        ending = asyncio.create_task(asyncio.to_thread(new_agent.stop))
        assert [event async for event in heard] == []
        assert await ending == 0


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_progress_of_a_long_run_is_told_if_asked_for(agent: Agent, mode: str) -> None:
    await agent.call("save_indicator", name="slow", source=SLOW)
    told: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with agent.client(mode) as client:
        result = await client.call_tool("run_indicator", {"name": "slow", "last": 1}, progress_callback=hear)
    assert not result.is_error
    assert len(told) >= 2
    assert [progress for progress, _, _ in told] == sorted(progress for progress, _, _ in told)
    assert told[-1][0] > 0.8
    assert {total for _, total, _ in told} == {10.0}
    assert all("slow" in str(message) for _, _, message in told)
    await agent.call("delete_indicator", name="slow")


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_a_connection_that_closes_stops_the_code(new_agent: Agent, mode: str) -> None:
    new_agent._environment["AGENT_RUN_SECONDS"] = "60"
    new_agent.start()
    await new_agent.call("save_indicator", name="bad", source=ENDLESS)
    params: dict[str, Any] = {"name": "run_indicator", "arguments": {"name": "bad"}}
    head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    if mode == MODERN:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        head += f"MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: run_indicator\r\n"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(new_agent.socket))
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await asyncio.to_thread(wait_until, lambda: new_agent.status()["busy"] == ["run_indicator bad"])
    closed = time.monotonic()
    await asyncio.to_thread(wait_until, lambda: new_agent.status()["busy"] == [])
    assert time.monotonic() - closed < 10


async def test_an_older_client_cancels_a_call_by_its_number(new_agent: Agent) -> None:
    new_agent._environment["AGENT_RUN_SECONDS"] = "60"
    new_agent.start()
    await new_agent.call("save_indicator", name="bad", source=ENDLESS)

    def post(message: dict[str, Any], client: str = "one") -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "User-Agent": client}
        headers["MCP-Protocol-Version"] = "2025-11-25"
        return new_agent.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", **message}).encode(), **headers)

    call = {"id": 7, "method": "tools/call", "params": {"name": "run_indicator", "arguments": {"name": "bad"}}}
    running = asyncio.create_task(asyncio.to_thread(post, call))
    await asyncio.to_thread(wait_until, lambda: new_agent.status()["busy"] == ["run_indicator bad"])
    # Neither another number nor another client's same number stops it.
    for number, client in ((8, "one"), (7, "two")):
        code, _ = post({"method": "notifications/cancelled", "params": {"requestId": number}}, client)
        assert code == 202
    await asyncio.sleep(0.2)
    assert new_agent.status()["busy"] == ["run_indicator bad"]
    post({"method": "notifications/cancelled", "params": {"requestId": 7, "reason": "took too long"}})
    code, answer = await running
    assert code == 200 and b"the client cancelled the call" in answer
    assert new_agent.status()["busy"] == []
