"""Conversations over the API: each user sees, and deletes, those of their own alone."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.users import User


def request(user: User, method: str, path: str = "", bearer: str | None = None) -> httpx2.Response:
    """A request of the conversations' API."""
    url = f"{user.gateway_url}/v1/conversations{path}"
    return user.http.request(method, url, headers={"Authorization": f"Bearer {bearer or user.token}"})


def append(user: User, conversation: str, turns: int) -> None:
    """Keep so many turns as the gateway does."""
    for turn in range(turns):
        for key, role, state in ((f"t{turn}", "user", "interrupted"), (f"t{turn}.end", "assistant", "complete")):
            messages = [{"role": role, "content": f"{role} {turn}"}]
            user.mcp.call(
                "append_conversation",
                conversation=conversation,
                idempotency_key=key,
                messages=messages,
                state=state,
            )


@pytest.fixture
def conversation(settled_user: User) -> str:
    """A conversation of three turns."""
    name = f"c-{secrets.token_hex(6)}"
    append(settled_user, name, 3)
    return name


def test_the_newest_messages_are_read_and_the_list_has_the_newest_conversation_first(
    settled_user: User, conversation: str
) -> None:
    read = request(settled_user, "GET", f"/{conversation}?last=2").json()
    assert (read["id"], read["object"], read["total"]) == (conversation, "conversation", 6)
    assert [message["content"] for message in read["messages"]] == ["user 2", "assistant 2"]
    assert read["messages"][-1]["turn"]["state"] == "complete"
    assert [message["key"] for message in read["messages"]] == ["t2", "t2"]
    listed = request(settled_user, "GET").json()
    assert listed["object"] == "list"
    assert listed["data"][0]["id"] == conversation
    assert listed["data"][0]["bytes"] > 0


def test_a_turn_without_an_end_is_shown_as_interrupted(settled_user: User) -> None:
    name = f"c-{secrets.token_hex(6)}"
    said = [{"role": "user", "content": "hello?", "data": {"status": "open"}}]
    settled_user.mcp.call(
        "append_conversation", conversation=name, idempotency_key="t", messages=said, state="interrupted"
    )
    messages = request(settled_user, "GET", f"/{name}").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["turn"]["state"] == "interrupted"


def test_nobody_else_reads_or_deletes_a_conversation(
    settled_user: User, conversation: str, new_module_user: Callable[[], User]
) -> None:
    other = new_module_user()
    append(other, "their-own", 1)
    for method in ("GET", "DELETE"):
        assert request(other, method, f"/{conversation}").status_code == httpx2.codes.NOT_FOUND
        refused = request(settled_user, method, f"/{conversation}", bearer="nobody")
        assert refused.status_code == httpx2.codes.UNAUTHORIZED
    assert [entry["id"] for entry in request(other, "GET").json()["data"]] == ["their-own"]
    assert request(settled_user, "GET", f"/{conversation}").json()["total"] == 6


def test_a_deleted_conversation_is_gone_once_and_can_be_brought_back(settled_user: User, conversation: str) -> None:
    deleted = request(settled_user, "DELETE", f"/{conversation}")
    assert deleted.json() == {"id": conversation, "object": "conversation.deleted", "deleted": True}
    for method in ("GET", "DELETE"):
        assert request(settled_user, method, f"/{conversation}").status_code == httpx2.codes.NOT_FOUND
    assert conversation not in [entry["id"] for entry in request(settled_user, "GET").json()["data"]]
    path = f"conversations/{conversation}.jsonl"
    settled_user.mcp.call("history_restore", path=path, commit="HEAD~1")
    assert request(settled_user, "GET", f"/{conversation}").json()["total"] == 6


@pytest.mark.parametrize("name", ["..%2F..%2Fsecrets", "%2e%2e", "a%00b", "x" * 200])
def test_a_name_that_leads_elsewhere_is_refused(settled_user: User, name: str) -> None:
    for method in ("GET", "DELETE"):
        answer = request(settled_user, method, f"/{name}")
        assert answer.status_code in (httpx2.codes.BAD_REQUEST, httpx2.codes.NOT_FOUND), answer.text
