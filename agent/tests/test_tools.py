"""The tools as a client sees them."""

from __future__ import annotations

import asyncio
import json
import math

import jsonschema
import pytest
from support import LEGACY, MODERN, Agent

from dexorder_agent.tools import listing

pytestmark = pytest.mark.anyio

READING = {
    "list_indicators", "show_indicator", "run_indicator", "list_strategies", "show_strategy", "run_strategy", "backtest_strategy",
    "read_conversation", "list_conversations", "list_files", "search_files", "read_file", "list_packages", "history_log", "history_show",
    "history_diff",
}  # fmt: skip
CHANGING = {
    "save_indicator", "delete_indicator", "save_strategy", "delete_strategy", "set_workspace_state", "set_user_profile",
    "set_system_prompt", "append_conversation", "set_conversation_summary", "delete_conversation", "add_package", "remove_package",
    "write_file", "history_restore",
}  # fmt: skip

RUNNING = {"run_indicator", "run_strategy", "backtest_strategy"}

DOUBLE = '"""Twice the price."""\n\ndef compute(close, *, factor: float = 2.0):\n    return close * factor\n'
ALWAYS = '"""Always in the market."""\nimport numpy as np\n\ndef signals(close):\n    return np.ones(len(close))\n'


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_every_tool_says_what_it_takes_gives_and_does(agent: Agent, mode: str) -> None:
    async with agent.client(mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == READING | CHANGING
    for name, tool in tools.items():
        assert tool.description and tool.title
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.output_schema is not None
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        hints = tool.annotations
        assert hints is not None
        assert hints.read_only_hint == (name in READING)
        assert hints.destructive_hint == (name in CHANGING - {"append_conversation", "add_package"})
        assert hints.idempotent_hint is True
        assert hints.open_world_hint == (name in {"add_package", "remove_package"})


@pytest.mark.parametrize("connects", [False, True])
def test_a_run_reaches_out_where_the_tier_lets_the_code_connect(connects: bool) -> None:
    tools = {tool.name: tool for tool in listing.listed(read_only=False, connects=connects)}
    hints = {name for name, tool in tools.items() if tool.annotations is not None and tool.annotations.open_world_hint}
    assert hints == {"add_package", "remove_package"} | (RUNNING if connects else set())


def test_the_listed_tools_are_those_of_the_code() -> None:
    """After a change of the tools: `python -m dexorder_agent.tools.listing`."""
    assert listing.FILE.read_text() == listing.text(listing.made())


async def test_old_clients_get_no_session_that_a_restart_could_break(agent: Agent) -> None:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}},
    }
    code, _ = agent.request(
        "POST", "/mcp", json.dumps(body).encode(), Content_Type="application/json", Accept="application/json, text/event-stream"
    )
    assert code == 200
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "read_file", "arguments": {"path": "README.md"}}}
    code, answer = agent.request(
        "POST", "/mcp", json.dumps(call).encode(), Content_Type="application/json", Accept="application/json, text/event-stream"
    )
    assert code == 200
    assert b"Trading workspace" in answer


async def test_only_the_local_host_is_served(agent: Agent) -> None:
    code, _ = agent.request("POST", "/mcp", b"{}", Host="example.org", Content_Type="application/json")
    assert code == 421


async def test_save_show_run_delete(agent: Agent) -> None:
    saved = await agent.call("save_indicator", name="double", source=DOUBLE)
    assert saved["changed"] and saved["commit"] == agent.git("rev-parse", "HEAD").strip()
    shown = await agent.call("show_indicator", name="double")
    assert shown["source"] == DOUBLE
    assert shown["signature"]["description"] == "Twice the price."
    run = await agent.call("run_indicator", name="double", series={"close": [1, 2.5]}, parameters={"factor": 3})
    assert run["outputs"] == {"double": [3.0, 7.5]}
    again = await agent.call("save_indicator", name="double", source=DOUBLE)
    assert not again["changed"] and again["commit"] == saved["commit"]
    await agent.call("delete_indicator", name="double")
    assert "doesn't exist" in await agent.fails("show_indicator", name="double")
    await agent.call("history_restore", path="indicators/double.py", commit=saved["commit"])
    assert (await agent.call("show_indicator", name="double"))["source"] == DOUBLE
    await agent.call("delete_indicator", name="double")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def compute(close:\n    pass", "line 1"),
        ("x = 1\ny = (\n", "line 2"),
        ("def calculate(close): return close", "there is no function compute"),
        ("async def compute(close): return close", "not async"),
        ("def compute(price): return price", "asks for 'price', which is no column"),
        ("def compute(close, *args): return close", "has * or ** parameters"),
        ("def compute(close, period=14): return close", "without defaults"),
        ("def compute(close, *, period): return close", "period has no type"),
        ("def compute(close, *, period: list = 1): return close", "isn't understood"),
        ("from typing import Annotated\ndef compute(close, *, period: Annotated[int, (2, 9)] = 14): return close", "at most 9"),
        ("def compute(close, *, period: int = len('x')): return close", "must be written out"),
        ("OUTPUTS = ('A',)\ndef compute(close): return close", "line 1: OUTPUTS"),
    ],
)
async def test_a_source_that_cant_be_used_is_refused_with_its_line(agent: Agent, source: str, complaint: str) -> None:
    assert complaint in await agent.fails("save_indicator", name="refused", source=source)
    assert "doesn't exist" in await agent.fails("show_indicator", name="refused")


@pytest.mark.parametrize("name", ["Upper", "1st", "a-b", "a.b", "../x", "", "x" * 65, "a\n"])
async def test_names_that_are_no_module_names_are_refused(agent: Agent, name: str) -> None:
    await agent.fails("save_indicator", name=name, source=DOUBLE)


async def test_a_strategy_gives_positions_and_a_backtest(agent: Agent) -> None:
    positions = (await agent.call("run_strategy", name="sma_cross"))["outputs"]["position"]
    assert set(positions) == {0.0, 1.0}
    result = await agent.call("backtest_strategy", name="sma_cross")
    assert len(result["equity"]) == result["bars"] == 3270
    assert result["total_return"] == pytest.approx(result["equity"][-1] - 1)
    assert result["trade_count"] == len(result["trades"]) > 10
    changes = sum(1 for before, after in zip([0.0, *positions], positions, strict=False) if before != after)
    assert changes == 2 * sum(trade["closed"] for trade in result["trades"]) + sum(not trade["closed"] for trade in result["trades"])
    free = await agent.call("backtest_strategy", name="sma_cross", cost=0)
    assert free["total_return"] > result["total_return"]


async def test_holding_always_is_buy_and_hold(agent: Agent) -> None:
    await agent.call("save_strategy", name="always", source=ALWAYS)
    result = await agent.call("backtest_strategy", name="always", cost=0)
    assert result["total_return"] == pytest.approx(result["buy_and_hold_return"])
    assert result["buy_and_hold_return"] == pytest.approx(202.91 / 100.25 - 1)
    await agent.call("delete_strategy", name="always")


async def test_conversations_take_a_turn_once(agent: Agent) -> None:
    turn = [{"role": "user", "content": "hello\u2028there"}, {"role": "assistant", "content": "hi", "data": {"tokens": 3}}]
    first = await agent.call("append_conversation", messages=turn, idempotency_key="turn-1", conversation="c1", summary="Greetings.")
    second = await agent.call("append_conversation", messages=turn, idempotency_key="turn-1", conversation="c1")
    assert first["appended"] and not second["appended"]
    assert first["commit"] == second["commit"]
    read = await agent.call("read_conversation", conversation="c1")
    assert read["total"] == 2
    # By these sizes a client knows whether somebody else has added something.
    assert (first["bytes_before"], second["bytes_before"]) == (0, first["bytes"])
    file = await agent.call("read_file", path="conversations/c1.jsonl")
    assert first["bytes"] == second["bytes"] == read["bytes"] == len(file["content"].encode())
    assert [message["content"] for message in read["messages"]] == ["hello\u2028there", "hi"]
    assert read["messages"][1]["data"] == {"tokens": 3}
    assert await agent.read("context://conversation-summary") == "Greetings."


async def test_a_turn_is_kept_with_its_tools_and_its_state(agent: Agent) -> None:
    turn = [
        {"role": "user", "content": "what is the rsi?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "1", "name": "run_indicator", "arguments": {"name": "rsi"}, "result": {"rsi": [50.5]}, "is_error": False}
            ],
        },
        {"role": "assistant", "content": "It is 50.5."},
    ]
    usage = {"model": "m", "input_tokens": 10, "output_tokens": 4}
    await agent.call("append_conversation", messages=turn, idempotency_key="1", conversation="c2", usage=usage)
    await agent.call(
        "append_conversation", messages=[{"role": "user", "content": "and"}], idempotency_key="2", conversation="c2", state="interrupted"
    )
    read = await agent.call("read_conversation", conversation="c2")
    kept = read["messages"]
    assert kept[1]["tool_calls"] == turn[1]["tool_calls"]
    assert [message.get("turn") for message in kept] == [None, None, {"state": "complete", "usage": usage}, {"state": "interrupted"}]
    window = await agent.call("read_conversation", conversation="c2", last=2, before=3)
    assert (window["first"], window["total"]) == (1, 4)
    assert window["messages"] == kept[1:3]


async def test_the_same_turn_sent_many_times_at_once_is_kept_once(agent: Agent) -> None:
    call = {"messages": [{"role": "user", "content": "x"}], "idempotency_key": "same", "conversation": "c3"}
    answers = await asyncio.gather(*(agent.call("append_conversation", **call) for _ in range(8)))
    assert [answer["appended"] for answer in answers].count(True) == 1
    assert (await agent.call("read_conversation", conversation="c3"))["total"] == 1


async def test_conversations_are_listed_summarised_and_deleted(agent: Agent) -> None:
    await agent.call("append_conversation", messages=[{"role": "user", "content": "x"}], idempotency_key="1", conversation="c4")
    assert (await agent.call("list_conversations"))["conversations"][0]["conversation"] == "c4"
    await agent.call("set_conversation_summary", text="Nothing much.")
    assert await agent.read("context://conversation-summary") == "Nothing much."
    deleted = await agent.call("delete_conversation", conversation="c4")
    assert "c4" not in [entry["conversation"] for entry in (await agent.call("list_conversations"))["conversations"]]
    assert "nothing to delete" in await agent.fails("delete_conversation", conversation="c4")
    await agent.call("history_restore", path="conversations/c4.jsonl", commit=f"{deleted['commit']}~1")
    assert (await agent.call("read_conversation", conversation="c4"))["total"] == 1


async def test_history_shows_compares_and_restores(agent: Agent) -> None:
    one = await agent.call("write_file", path="notes/plan.md", content="one\n")
    two = await agent.call("write_file", path="notes/plan.md", content="two\n")
    log = (await agent.call("history_log", path="notes/plan.md"))["commits"]
    assert [entry["commit"] for entry in log] == [two["commit"], one["commit"]]
    assert log[0]["author"] == "trader1" and log[0]["paths"] == ["notes/plan.md"]
    diff = (await agent.call("history_diff", older=one["commit"], newer=two["commit"]))["diff"]
    assert "-one" in diff and "+two" in diff
    shown = await agent.call("history_show", commit=one["commit"], path="notes/plan.md")
    assert (shown["message"], shown["paths"], shown["content"]) == ("Write notes/plan.md", ["notes/plan.md"], "one\n")
    assert "+one" in shown["diff"] and shown["complete"]
    assert "+two" in (await agent.call("history_show"))["diff"]
    assert "doesn't exist at commit" in await agent.fails("history_show", commit=f"{one['commit']}~1", path="notes/plan.md")
    await agent.call("history_restore", path="notes/plan.md", commit=one["commit"])
    assert (await agent.call("read_file", path="notes/plan.md"))["content"] == "one\n"
    await agent.call("history_restore", path="notes/plan.md", commit=f"{one['commit']}~1")
    assert "doesn't exist" in await agent.fails("read_file", path="notes/plan.md")
    assert "write a hash" in await agent.fails("history_diff", older="--output=/tmp/x")
    assert "doesn't exist" in await agent.fails("history_restore", path="notes/plan.md", commit="0123456789")


async def test_values_that_json_doesnt_have_are_null(agent: Agent) -> None:
    source = "import numpy as np\ndef compute(close):\n    return np.array([np.nan, np.inf, -np.inf, 1.5])\n"
    await agent.call("save_indicator", name="odd", source=source)
    result = await agent.call("run_indicator", name="odd", series={"close": [1, 2, 3, 4]})
    assert result["outputs"]["odd"] == [None, None, None, 1.5]
    json.dumps(result, allow_nan=False)
    assert math.isfinite(result["milliseconds"])
    await agent.call("delete_indicator", name="odd")
