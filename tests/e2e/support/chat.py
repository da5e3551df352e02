"""Turns of the chat as the official client has them, and conversations as the installed gateway shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    import openai

    from support.users import User


def say(client: openai.OpenAI, conversation: str, text: str, key: str | None = None) -> str:
    """The answer of one turn, which is kept."""
    completion = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": text}],
        metadata={"conversation_id": conversation},
        extra_headers={"Idempotency-Key": key} if key else None,
    )
    extra: dict[str, Any] = completion.model_extra["dexorder"] if completion.model_extra else {}
    assert extra["saved"] is True, extra
    answer = completion.choices[0].message.content
    assert answer is not None
    return answer


def kept(user: User, conversation: str) -> list[dict[str, Any]]:
    """The conversation as the installed gateway shows it: another replica for all that it knows."""
    url = f"{user.gateway_url}/v1/conversations/{conversation}"
    response = user.http.get(url, headers={"Authorization": f"Bearer {user.token}"})
    assert response.status_code == httpx2.codes.OK, response.text
    messages: list[dict[str, Any]] = response.json()["messages"]
    return messages
