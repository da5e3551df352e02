"""The chat without a model: a command runs a real tool in the user's workspace, and the workspace keeps the turn."""

from __future__ import annotations

import itertools
import json
import re
import secrets
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.users import User

COMMAND = "/run_indicator name=rsi last=3"


def _client(user: User, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{user.gateway_url}/v1", api_key=token, max_retries=0)


@pytest.fixture
def client(settled_user: User) -> Iterator[openai.OpenAI]:
    """The official client, with nothing but the gateway's address and the user's token."""
    with _client(settled_user, settled_user.token) as official:
        yield official


def _conversation() -> str:
    return f"e2e-{secrets.token_hex(6)}"


def _get(user: User, path: str) -> httpx2.Response:
    return user.http.get(f"{user.gateway_url}/v1/{path}", headers={"Authorization": f"Bearer {user.token}"})


def _results(text: str) -> list[dict[str, Any]]:
    """The results of tools in an answer of the offline mode."""
    return [json.loads(block) for block in re.findall(r"```\n(.*?)\n```", text, re.DOTALL)]


def test_the_official_client_gets_what_the_tool_gives_and_the_turn_is_kept(
    settled_user: User, client: openai.OpenAI
) -> None:
    conversation = _conversation()
    completion = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": COMMAND}],
        metadata={"conversation_id": conversation},
    )
    text = completion.choices[0].message.content
    assert text is not None
    outputs = settled_user.mcp.call("run_indicator", name="rsi", last=3)["outputs"]
    assert [result["outputs"] for result in _results(text)] == [outputs]
    assert completion.choices[0].finish_reason == "stop"

    kept = settled_user.mcp.call("read_conversation", conversation=conversation)["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant", "assistant"]
    assert kept[0]["content"] == COMMAND
    assert kept[1]["tool_calls"][0]["name"] == "run_indicator"
    assert json.loads(kept[1]["tool_calls"][0]["result"])["outputs"] == outputs
    assert kept[2]["content"] == text
    assert kept[2]["turn"]["state"] == "complete"
    key = kept[0]["key"]
    assert [message["key"] for message in kept] == [key, f"{key}.end", f"{key}.end"]


def test_the_official_client_streams_and_names_the_conversation_itself(
    settled_user: User, client: openai.OpenAI
) -> None:
    conversation = _conversation()
    stream = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": f"{COMMAND}\n/platform_workspace_status\n/run_indicator name=no_such"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"Dexorder-Conversation-Id": conversation},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "`run_indicator`:" in text
    assert settled_user.workspace.name in text
    assert "`run_indicator` failed:" in text
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 1
    assert chunks[-1].usage is not None
    assert _get(settled_user, f"conversations/{conversation}").json()["total"] == 3


def test_conversations_are_listed_read_and_deleted(settled_user: User, client: openai.OpenAI) -> None:
    conversation = _conversation()
    for command in ("/tools", COMMAND):
        client.chat.completions.create(
            model="offline",
            messages=[{"role": "user", "content": command}],
            metadata={"conversation_id": conversation},
        )
    listed = _get(settled_user, "conversations").json()["data"]
    assert conversation in [entry["id"] for entry in listed]
    read = _get(settled_user, f"conversations/{conversation}?last=1").json()
    assert (read["total"], len(read["messages"])) == (5, 1)
    deleted = settled_user.http.delete(
        f"{settled_user.gateway_url}/v1/conversations/{conversation}",
        headers={"Authorization": f"Bearer {settled_user.token}"},
    )
    assert deleted.json()["deleted"] is True
    assert _get(settled_user, f"conversations/{conversation}").status_code == httpx2.codes.NOT_FOUND


def _run(user: User, thread: str, text: str) -> list[dict[str, Any]]:
    """The events of a run of AG-UI."""
    run = {
        "threadId": thread,
        "runId": secrets.token_hex(6),
        "state": {},
        "tools": [],
        "context": [],
        "forwardedProps": {},
        "messages": [{"id": "1", "role": "user", "content": text}],
    }
    request = user.http.stream(
        "POST",
        f"{user.gateway_url}/v1/chat/events",
        json=run,
        headers={"Authorization": f"Bearer {user.token}"},
    )
    with request as response:
        assert response.status_code == httpx2.codes.OK
        return [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]


def _kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event.get("name", event["type"]) for event in events]


def test_the_first_message_of_a_new_user_starts_the_workspace_and_says_so(user: User) -> None:
    events = _run(user, _conversation(), COMMAND)
    kinds = [kind for kind, _ in itertools.groupby(_kinds(events))]
    assert kinds[:3] == ["RUN_STARTED", "dexorder.waking", "dexorder.context"]
    assert kinds[-2:] == ["dexorder.saved", "RUN_FINISHED"]
    context = next(event for event in events if event.get("name") == "dexorder.context")
    assert context["value"]["leftOut"] == []
    result = next(event for event in events if event["type"] == "TOOL_CALL_RESULT")
    assert len(json.loads(result["content"])["outputs"]["rsi"]) == 3
    assert len(user.workspaces()) == 1


def test_a_message_wakes_a_workspace_that_sleeps_and_the_conversation_goes_on(user: User) -> None:
    workspace = user.make_workspace(idleTimeout="5s")
    workspace.wait("Ready")
    conversation = _conversation()
    assert _kinds(_run(user, conversation, COMMAND))[-1] == "RUN_FINISHED"
    workspace.wait_reason("Ready", "Suspended", within=60)
    events = _run(user, conversation, "/read_conversation conversation=" + conversation)
    told = [event["value"] for event in events if event.get("name") == "dexorder.waking"]
    assert [value["state"] for value in told][:2] == ["Suspended", "Starting"]
    assert all(value["message"] for value in told)
    assert _kinds(events)[-2:] == ["dexorder.saved", "RUN_FINISHED"]
    result = next(event for event in events if event["type"] == "TOOL_CALL_RESULT")
    assert json.loads(result["content"])["messages"][0]["content"] == COMMAND
    kept = _get(user, f"conversations/{conversation}").json()["messages"]
    assert [message["turn"]["state"] for message in kept if "turn" in message] == ["complete"] * 2


def test_users_do_not_see_each_others_conversations(new_module_user: Callable[[], User], client: openai.OpenAI) -> None:
    conversation = _conversation()
    client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": "hello"}],
        metadata={"conversation_id": conversation},
    )
    other = new_module_user()
    assert _get(other, f"conversations/{conversation}").status_code == httpx2.codes.NOT_FOUND
    assert _get(other, "conversations").json()["data"] == []


def test_refusals_have_the_form_that_the_official_client_knows(settled_user: User, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hello"}])
    assert unknown.value.code == "model_not_found"
    with _client(settled_user, "nothing") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
