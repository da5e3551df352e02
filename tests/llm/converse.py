"""A conversation through a gateway of the installed image with a real model, by the official client.

The model is too small to be asked for good answers. What is looked at is all else: that its server's streams are
understood, that every turn is kept with its usage, and that the next turn knows the one before.
"""

from __future__ import annotations

import argparse
import secrets
import time
from contextlib import contextmanager
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
ANSWER_SECONDS = 600.0
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


def turn(client: openai.OpenAI, conversation: str, text: str, *, stream: bool) -> dict[str, Any]:
    """Have one turn; what the gateway says of it beside the answer, with the text as `text`."""
    asked: Any = {
        "model": "default",
        "messages": [{"role": "user", "content": text}],
        "metadata": {"conversation_id": conversation},
    }
    began = time.monotonic()
    if not stream:
        completion = client.chat.completions.create(**asked)
        said = completion.choices[0].message.content or ""
        extra = completion.model_extra
    else:
        said, extra = "", None
        for chunk in client.chat.completions.create(**asked, stream=True):
            said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            extra = chunk.model_extra if chunk.model_extra else extra
    assert extra is not None
    found = {**extra["dexorder"], "text": said}
    print(f"[{time.monotonic() - began:.1f} s, {'streamed' if stream else 'whole'}] {text}\n  -> {said!r}", flush=True)
    assert found["saved"] is True, found
    return found


def converse(user: User, url: str) -> None:
    """Two turns without tools, one streamed and one not, which the workspace keeps word for word."""
    conversation = f"c-{secrets.token_hex(6)}"
    with openai.OpenAI(base_url=f"{url}/v1", api_key=user.token, max_retries=0, timeout=ANSWER_SECONDS) as client:
        first = turn(client, conversation, "Say hello in one short sentence.", stream=True)
        second = turn(client, conversation, "Now say it in other words.", stream=False)
    messages = kept(user, conversation)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2, messages
    answers = [message for message in messages if message["role"] == "assistant"]
    assert [answer["content"] for answer in answers] == [first["text"], second["text"]]
    assert first["text"] or second["text"], "the model said nothing at all"
    spent = [answer["turn"]["usage"]["input_tokens"] for answer in answers]
    # The second prompt has the first turn in it. Some servers don't tell what a streamed answer took.
    print(f"tokens of the prompts, if the server tells them: {spent}")
    assert spent[1] >= spent[0], spent


def use_tools(user: User, url: str) -> None:
    """A turn in which the model may call tools. Whether it does is its own choice: it is told, not judged."""
    conversation = f"c-{secrets.token_hex(6)}"
    with openai.OpenAI(base_url=f"{url}/v1", api_key=user.token, max_retries=0, timeout=ANSWER_SECONDS) as client:
        try:
            turn(client, conversation, "What time is it? Call the tool platform_time.", stream=True)
        except openai.APIError as error:
            # The server can't stream every call of a tool.
            print(f"the model's server gave up: {error}")
    messages = kept(user, conversation)
    assert messages[0]["role"] == "user"
    calls = [call["name"] for message in messages for call in message.get("tool_calls", [])]
    print(f"tools that the model called: {calls}; the turn is {messages[-1]['turn']['state']}")


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
            with gateway(url) as full:
                use_tools(user, full)
        finally:
            user.remove()
    print("a real model's conversation was held and kept")


if __name__ == "__main__":
    main()
