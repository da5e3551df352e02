"""The chat with a model: a gateway of the installed image, a scripted provider, and the user's real workspace."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import openai
import pytest

from support.chat import kept, say
from support.scripted_gateway import ScriptedGateway
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Kubectl
    from support.users import User

Gateway = tuple[ScriptedGateway, str]
NODE = Path(__file__).resolve().parents[2] / ".local" / "node"
AG_UI = Path(__file__).parent / "support" / "ag_ui.mjs"


@pytest.fixture(scope="module", params=["openai", "anthropic"])
def gateway(request: pytest.FixtureRequest, system: Kubectl, kubectl: Kubectl) -> Iterator[Gateway]:
    """A gateway for each wire format; its provider's streams are cut at every byte."""
    tier = kubectl.get("workspacetier", "standard")
    assert tier is not None
    scripted = ScriptedGateway(system, f"chat-{request.param}-{secrets.token_hex(3)}", request.param)
    try:
        yield scripted, scripted.start(agent_image=tier["spec"]["image"], piece=1)
    finally:
        scripted.stop()


@pytest.fixture
def client(gateway: Gateway, settled_user: User) -> Iterator[openai.OpenAI]:
    """The official client at that gateway."""
    with openai.OpenAI(base_url=f"{gateway[1]}/v1", api_key=settled_user.token, max_retries=0) as official:
        yield official


def test_tools_run_at_once_and_the_model_gets_their_results(client: openai.OpenAI, settled_user: User) -> None:
    conversation = f"c-{secrets.token_hex(6)}"
    script = 'call run_indicator {"name": "rsi", "last": 2} & platform_workspace_status & run_indicator {"name": "no"}'
    script += "\nsay Grüße: das war's ✓"
    assert say(client, conversation, script) == "Grüße: das war's ✓"
    calls = kept(settled_user, conversation)[1]["tool_calls"]
    assert [call["name"] for call in calls] == ["run_indicator", "platform_workspace_status", "run_indicator"]
    assert [call["is_error"] for call in calls] == [False, False, True]
    assert len(json.loads(calls[0]["result"])["outputs"]["rsi"]) == 2
    assert settled_user.workspace.name in calls[1]["result"]
    # The next turn knows the one before, and a provider that refuses twice is asked again.
    assert say(client, conversation, "status 429\nstatus 529\nsay again") == "again"
    assert [message["role"] for message in kept(settled_user, conversation)] == [
        *("user", "assistant", "assistant"),
        *("user", "assistant"),
    ]


def test_the_ag_ui_client_follows_a_turn(gateway: Gateway, settled_user: User) -> None:
    # Before that the turn tells of the start, though the agent may answer already.
    settled_user.workspace.wait("Ready")
    script = 'call run_indicator {"name": "rsi", "last": 1} & platform_time\nsay Done, as you see.'
    environment = {
        **os.environ,
        "URL": f"{gateway[1]}/v1/chat/events",
        "TOKEN": settled_user.token,
        "THREAD": f"c-{secrets.token_hex(6)}",
        "TEXT": script,
    }
    command = [str(NODE / "node_modules" / ".bin" / "node"), "--input-type=module", "-"]
    done = subprocess.run(
        command,
        cwd=NODE,
        env=environment,
        input=AG_UI.read_text(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    kinds = [event.get("name", event["type"]) for event in told["events"]]
    assert kinds[:2] == ["RUN_STARTED", "dexorder.context"]
    assert kinds[-2:] == ["dexorder.saved", "RUN_FINISHED"]
    roles = [message["role"] for message in told["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant"]
    assert told["messages"][-1]["content"] == "Done, as you see."
    calls = told["messages"][1]["toolCalls"]
    assert [call["function"]["name"] for call in calls] == ["run_indicator", "platform_time"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"name": "rsi", "last": 1}


def test_a_turn_of_a_gateway_that_is_killed_outright_is_kept_as_interrupted_and_can_be_had_again(
    gateway: Gateway, client: openai.OpenAI, settled_user: User
) -> None:
    scripted, _ = gateway
    conversation, key = f"c-{secrets.token_hex(6)}", secrets.token_hex(8)
    restarts = scripted.restarts()
    heard = ""
    # The stream breaks off without an end.
    with contextlib.suppress(openai.APIError, httpx2.TransportError):
        stream = client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": "hold Half an answer"}],
            metadata={"conversation_id": conversation},
            stream=True,
            extra_headers={"Idempotency-Key": key},
        )
        for chunk in stream:
            heard += chunk.choices[0].delta.content or ""
            if heard.endswith("answer"):
                scripted.kill()
        pytest.fail("the stream came to an orderly end")
    assert heard == "Half an answer"
    seen = kept(settled_user, conversation)
    assert [message["role"] for message in seen] == ["user", "assistant"]
    assert seen[0]["content"] == "hold Half an answer"
    assert seen[1]["turn"]["state"] == "interrupted"
    # The gateway is back, and the conversation goes on. The same request twice is one turn.
    eventually("the gateway is started again", lambda: scripted.restarts() > restarts, within=60)
    scripted.wait_until_served()
    assert [say(client, conversation, "say Here I am", key="next") for _ in range(2)] == ["Here I am"] * 2
    seen = kept(settled_user, conversation)
    assert [message["turn"]["state"] for message in seen if "turn" in message] == ["interrupted", "complete"]
    assert len(seen) == 4
