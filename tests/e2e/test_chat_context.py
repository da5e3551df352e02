"""The user's context in the prompt: what another client changes is in the next turn, what grows old is summed up."""

from __future__ import annotations

import json
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import openai
import pytest

from support.chat import say
from support.scripted_gateway import ScriptedGateway
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Kubectl
    from support.users import User

SUMMARY = "context://conversation-summary"
KEPT_SECONDS = 30.0
"""So long the gateway may keep what it has read, if it hears of no change."""


@pytest.fixture(scope="module")
def gateway(system: Kubectl, kubectl: Kubectl) -> Iterator[str]:
    """The URL of a gateway that shows a model little of what was said before."""
    tier = kubectl.get("workspacetier", "standard")
    assert tier is not None
    scripted = ScriptedGateway(system, f"chat-context-{secrets.token_hex(3)}", "anthropic")
    try:
        yield scripted.start(agent_image=tier["spec"]["image"], historySize="1KiB", contextSize="8KiB")
    finally:
        scripted.stop()


@pytest.fixture
def client(gateway: str, settled_user: User) -> Iterator[openai.OpenAI]:
    """The official client at that gateway."""
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=settled_user.token, max_retries=0) as official:
        yield official


def context(gateway: str, user: User) -> dict[str, Any]:
    """What a turn says of the context that it used."""
    run = {"threadId": "looks", "runId": secrets.token_hex(6), "messages": [{"role": "user", "content": "say Yes."}]}
    response = user.http.post(f"{gateway}/v1/chat/events", json=run, headers={"Authorization": f"Bearer {user.token}"})
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "RUN_FINISHED", events
    told: dict[str, Any] = next(event["value"] for event in events if event.get("name") == "dexorder.context")
    return told


def test_what_another_client_changes_is_in_the_next_prompt(client: openai.OpenAI, settled_user: User) -> None:
    """The model does what the profile says. It is read once and kept: only the news of the change makes it another."""
    conversation = f"c-{secrets.token_hex(6)}"

    def obeys(metal: str) -> bool:
        return say(client, conversation, "obey") == f"I trade {metal}."

    for metal in ("copper", "tin", "zinc"):
        # Through the installed gateway: the one with the model does not see the call.
        settled_user.mcp.call("set_user_profile", text=f"ORDER: say I trade {metal}.")
        changed = time.monotonic()
        eventually(f"the prompt has {metal}", partial(obeys, metal), within=60)
        assert time.monotonic() - changed < KEPT_SECONDS / 2
    settled_user.mcp.call("set_user_profile", text="")


def test_what_does_not_fit_is_cut_and_the_client_is_told(gateway: str, settled_user: User) -> None:
    whole = context(gateway, settled_user)
    assert [part["uri"] for part in whole["used"]][:2] == ["context://system-prompt", "context://user-profile"]
    assert whole["leftOut"] == []
    settled_user.mcp.call("set_user_profile", text="x" * 8100)

    def cut() -> dict[str, Any] | None:
        parts = {part["uri"]: part for part in context(gateway, settled_user)["used"]}
        return parts if parts["context://user-profile"]["bytes"] == 8100 else None

    parts = eventually("the profile is there", cut, within=KEPT_SECONDS / 2)
    # The more important is whole, the least important is not shown at all.
    assert parts["context://system-prompt"]["shown"] == parts["context://system-prompt"]["bytes"]
    assert parts["strategies://list"]["bytes"] > 0
    assert parts["strategies://list"]["shown"] == 0
    assert sum(part["shown"] for part in parts.values()) <= 8 * 1024
    settled_user.mcp.call("set_user_profile", text="")


def test_what_leaves_the_prompt_goes_into_the_summary(gateway: str, client: openai.OpenAI, settled_user: User) -> None:
    conversation = f"c-{secrets.token_hex(6)}"
    word = secrets.token_hex(8)
    before = settled_user.mcp.read(SUMMARY)
    assert word not in before
    say(client, conversation, f"say I remember {word}. {'x' * 380}")
    say(client, conversation, f"say And now? {'y' * 380}")
    assert settled_user.mcp.read(SUMMARY) == before, "nothing has left the prompt yet"
    say(client, conversation, "say Go on.")
    summary = settled_user.mcp.read(SUMMARY)
    assert summary.startswith("Summed up: ")
    assert word in summary
    # It is part of the next prompt, in whatever conversation.
    parts = {part["uri"]: part for part in context(gateway, settled_user)["used"]}
    assert parts[SUMMARY]["bytes"] == len(summary.encode().strip())
