"""A conversation through a gateway of the installed image with a real model, by the official client.

The model is too small to be asked for good answers. What is looked at is all else: that its server's streams are
understood, that a tool that it calls runs, that every turn is kept with what it took, and that the next turn knows the
one before. The server can't stream calls of tools: with them it is asked for whole answers.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from support.chat import kept
from support.kubectl import SYSTEM_NAMESPACE, WORKSPACE_NAMESPACE, Kubectl
from support.other_gateway import OtherGateway
from support.users import User
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 120.0
ANSWER_SECONDS = 1200.0
"""A model on few processors takes its time with a long prompt."""


@contextmanager
def gateway(url: str, **settings: Any) -> Iterator[str]:
    """The URL of a gateway with that model."""
    # So small a model is lost in a long prompt.
    chat = {"provider": "openai", "baseUrl": url, "model": "small", "maxTokens": 64, "contextSize": "2KiB", **settings}
    other = OtherGateway(Kubectl(SYSTEM_NAMESPACE), f"chat-llm-{secrets.token_hex(3)}")
    try:
        yield other.start(lambda config: config.update(chat=chat), {})
    finally:
        other.stop()


def ready(http: httpx2.Client, url: str) -> bool:
    """Whether the model's server answers."""
    try:
        return http.get(f"{url}/models").status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


@dataclass(frozen=True)
class Said:
    """An answer as the official client has it."""

    text: str
    pieces: int
    input_tokens: int
    output_tokens: int
    estimated: bool


class Conversation:
    """A conversation of a user at a gateway."""

    def __init__(self, user: User, url: str) -> None:
        self._user = user
        self._url = url
        self.id = f"c-{secrets.token_hex(6)}"

    def say(self, text: str, *, stream: bool) -> Said:
        """Have one turn, which is kept."""
        asked: Any = {
            "model": "default",
            "messages": [{"role": "user", "content": text}],
            "metadata": {"conversation_id": self.id},
        }
        began = time.monotonic()
        token = self._user.token
        with openai.OpenAI(base_url=f"{self._url}/v1", api_key=token, max_retries=0, timeout=ANSWER_SECONDS) as client:
            if stream:
                asked |= {"stream": True, "stream_options": {"include_usage": True}}
                chunks = list(client.chat.completions.create(**asked))
                pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
                extra = next(chunk.model_extra for chunk in reversed(chunks) if chunk.model_extra)
                usage = chunks[-1].usage
            else:
                whole = client.chat.completions.create(**asked)
                pieces, extra, usage = [whole.choices[0].message.content or ""], whole.model_extra, whole.usage
        told = (extra or {})["dexorder"]
        assert told["saved"] is True, told
        assert told["context"]["leftOut"] == [], told
        assert usage is not None
        texts = [piece for piece in pieces if piece]
        said = Said("".join(texts), len(texts), usage.prompt_tokens, usage.completion_tokens, told["usage_estimated"])
        print(f"[{time.monotonic() - began:.1f} s] {text}\n  -> {said}", flush=True)
        return said

    def kept(self) -> list[dict[str, Any]]:
        """The messages as the workspace has them, read through the installed gateway."""
        return kept(self._user, self.id)


def check_kept(message: dict[str, Any], said: Said) -> None:
    """The last message of a turn is the answer, with what the turn took."""
    assert message["content"] == said.text
    assert message["turn"]["state"] == "complete"
    usage = {"model": "small", "input_tokens": said.input_tokens, "output_tokens": said.output_tokens}
    assert message["turn"]["usage"] == usage
    assert message["data"].get("tokens_estimated", False) is said.estimated


def converse(user: User, url: str) -> None:
    """Two turns without tools, streamed and not, which the workspace keeps word for word."""
    conversation = Conversation(user, url)
    first = conversation.say("Count from one to ten in words.", stream=True)
    second = conversation.say("Count on to twenty.", stream=False)
    messages = conversation.kept()
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2, messages
    for message, said in zip(messages[1::2], (first, second), strict=True):
        check_kept(message, said)
    # It came as the model made it.
    assert first.pieces > 1
    # This server does not tell what a stream takes. The second prompt has the first turn in it.
    assert first.estimated
    assert second.estimated
    assert second.input_tokens > first.input_tokens > 0
    assert min(first.output_tokens, second.output_tokens) > 0


def use_a_tool(user: User, url: str) -> None:
    """A turn in which the model calls a tool of the platform, and gets its result."""
    conversation = Conversation(user, url)
    said = conversation.say("What time is it? Call the tool platform_time.", stream=True)
    assert not said.estimated
    assert min(said.input_tokens, said.output_tokens) > 0
    messages = conversation.kept()
    check_kept(messages[-1], said)
    calls = [call for message in messages for call in message.get("tool_calls", [])]
    print(f"tools that the model called: {[call['name'] for call in calls]}", flush=True)
    times = [call for call in calls if call["name"] == "platform_time"]
    assert times, messages
    assert not times[0]["is_error"]
    told = datetime.fromisoformat(json.loads(times[0]["result"])["utc"])
    assert abs(datetime.now(UTC) - told) < timedelta(seconds=ANSWER_SECONDS)


def main() -> None:
    """Hold both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of the model's server, as pods reach it")
    url = parser.parse_args().url
    with httpx2.Client(trust_env=False, timeout=90) as http:
        eventually("the model's server answers", lambda: ready(http, url), within=START_SECONDS)
        user = User.of_environment(f"llm-{secrets.token_hex(4)}", Kubectl(WORKSPACE_NAMESPACE), http)
        try:
            user.mcp.tools()
            with gateway(url, maxRounds=1) as plain:
                converse(user, plain)
            # One round for the call, one for the answer.
            with gateway(url, maxRounds=2, answers="whole", timeout="20m") as full:
                use_a_tool(user, full)
        finally:
            user.remove()
    print("a real model's conversation was held and kept")


if __name__ == "__main__":
    main()
