"""The resources that the platform reads into a conversation."""

from __future__ import annotations

import json

import pytest
from mcp import MCPError
from support import LEGACY, MODERN, Agent

pytestmark = pytest.mark.anyio

URIS = [
    "context://user-profile",
    "context://conversation-summary",
    "context://workspace-state",
    "context://system-prompt",
    "indicators://list",
    "strategies://list",
]


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_exactly_these_are_listed_and_can_be_read(agent: Agent, mode: str) -> None:
    async with agent.client(mode) as client:
        listed = await client.list_resources()
        assert [resource.uri for resource in listed.resources] == URIS
        for uri in URIS:
            result = await client.read_resource(uri)
            assert getattr(result.contents[0], "text", "")


async def test_no_answer_may_be_shared_between_users(agent: Agent) -> None:
    async with agent.client() as client:
        answers = [await client.read_resource(uri) for uri in URIS]
        listed = [await client.list_resources(), await client.list_tools()]
    assert {answer.cache_scope for answer in [*answers, *listed]} == {"private"}


async def test_an_unknown_resource_is_an_error_in_the_request(agent: Agent) -> None:
    async with agent.client() as client:
        with pytest.raises(MCPError) as error:
            await client.read_resource("context://secrets")
    assert error.value.error.code == -32602


async def test_indicators_are_described_from_their_source(agent: Agent) -> None:
    entries = {entry["name"]: entry for entry in json.loads(await agent.read("indicators://list"))["indicators"]}
    assert {"sma", "ema", "rsi", "macd", "bollinger", "atr"} <= set(entries)
    assert entries["atr"]["inputs"] == ["high", "low", "close"]
    assert entries["macd"]["outputs"] == ["macd", "signal", "histogram"]
    assert entries["rsi"]["parameters"] == [
        {"name": "period", "type": "int", "required": False, "default": 14, "minimum": 2, "maximum": 500}
    ]
    strategies = {entry["name"]: entry for entry in json.loads(await agent.read("strategies://list"))["strategies"]}
    assert [parameter["name"] for parameter in strategies["sma_cross"]["parameters"]] == ["fast", "slow"]


async def test_a_file_that_cant_be_read_is_listed_with_its_error_and_never_run(agent: Agent) -> None:
    await agent.call("write_file", path="indicators/broken.py", content="def compute(close:\n    return close\n")
    await agent.call("write_file", path="indicators/careless.py", content="import os\nos._exit(1)\n\ndef compute(close): return close\n")
    entries = {entry["name"]: entry for entry in json.loads(await agent.read("indicators://list"))["indicators"]}
    assert "indicators/broken.py line 1" in entries["broken"]["error"]
    assert entries["careless"]["inputs"] == ["close"]
    await agent.call("delete_indicator", name="broken")
    await agent.call("delete_indicator", name="careless")


async def test_context_is_what_was_set(agent: Agent) -> None:
    await agent.call("set_user_profile", text="Trades copper.")
    await agent.call("set_system_prompt", text="Be brief.")
    await agent.call("set_workspace_state", state={"chart": {"symbol": "IBM", "bars": 100}, "old": 1})
    await agent.call("set_workspace_state", state={"chart": {"bars": 50}, "old": None}, merge=True)
    assert await agent.read("context://user-profile") == "Trades copper."
    assert await agent.read("context://system-prompt", LEGACY) == "Be brief."
    assert json.loads(await agent.read("context://workspace-state")) == {"chart": {"symbol": "IBM", "bars": 50}}


async def test_single_things_are_read_by_templates(agent: Agent) -> None:
    async with agent.client() as client:
        templates = await client.list_resource_templates()
    assert templates.cache_scope == "private"
    assert [template.uri_template for template in templates.resource_templates] == [
        "indicators://{name}",
        "strategies://{name}",
        "conversations://{id}",
    ]
    shown = json.loads(await agent.read("indicators://rsi", LEGACY))
    assert shown["signature"]["name"] == "rsi" and "def compute" in shown["source"]
    assert "def signals" in json.loads(await agent.read("strategies://sma_cross"))["source"]
    await agent.call("append_conversation", messages=[{"role": "user", "content": "hello"}], idempotency_key="t1", conversation="a:b")
    for uri in ("conversations://a:b", "conversations://a%3Ab"):
        assert json.loads(await agent.read(uri))["messages"][0]["content"] == "hello"


@pytest.mark.parametrize("uri", ["indicators://missing", "conversations://missing", "strategies://..%2F..%2Fetc", "conversations://"])
async def test_what_a_template_names_must_exist(agent: Agent, uri: str) -> None:
    async with agent.client() as client:
        with pytest.raises(MCPError, match=r"doesn't exist|can't be used"):
            await client.read_resource(uri)
