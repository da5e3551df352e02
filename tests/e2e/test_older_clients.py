"""Clients of revisions before 2026-07-28: what they have that the agent, which speaks the newest revision, has not."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx2

from support.legacy import CAPABILITIES, REVISION, LegacyClient, request
from support.mcp_http import ACCEPT
from support.waiting import eventually
from support.workspace import parse_time

if TYPE_CHECKING:
    from support.legacy import Message
    from support.users import User

ENDLESS = "def compute(close):\n    while True: pass\n"
PROFILE = "context://user-profile"
CANCEL_SECONDS = 8.0
"""Less than the agent lets user code run."""


MUCH = {
    "protocolVersion": REVISION,
    "clientInfo": dict.fromkeys(("name", "title", "version"), "\u00fc" * 500),
    "capabilities": {
        **CAPABILITIES,
        "experimental": {"x": {"y": "z" * 180}},
        "extensions": {"a.b/c": {"d": "e" * 5000}},
    },
}
"""What makes the longest identifier."""


def connected(user: User) -> LegacyClient:
    return LegacyClient.connect(user.http, user.endpoint, user.mcp.credentials)


def test_a_subscription_tells_of_a_change(settled_user: User) -> None:
    client = connected(settled_user)
    told: list[Message] = []
    opened = threading.Event()

    def listen() -> None:
        with client.listen() as messages:
            opened.set()
            for message in messages:
                told.append(message)
                if message.get("method") == "notifications/resources/updated":
                    return

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    assert opened.wait(30)
    assert client.result("resources/subscribe", {"uri": PROFILE}) == {}
    settled_user.mcp.call("set_user_profile", text="prefers long horizons")
    listening.join(30)
    assert {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": PROFILE}} in told


def test_a_cancelled_call_stops_the_users_code(settled_user: User) -> None:
    """The agent is told by a connection that closes, as the newest revision has it."""
    settled_user.mcp.call("save_indicator", name="endless", source=ENDLESS)
    client = connected(settled_user)
    answers: list[Message] = []

    def run() -> None:
        with client.call("run_indicator", {"name": "endless", "last": 1}, id_="mine") as messages:
            answers.extend(messages)

    workspace = settled_user.workspace
    calling = threading.Thread(target=run, daemon=True)
    calling.start()
    eventually("the code runs", lambda: workspace.busy() == ["run_indicator endless"], within=20)
    client.cancel("mine")
    eventually("the code has ended", lambda: not workspace.busy(), within=CANCEL_SECONDS)
    calling.join(CANCEL_SECONDS)
    assert not calling.is_alive()
    assert answers == [], "a cancelled request has no response"


def test_a_session_goes_on_in_the_next_pod(user: User) -> None:
    client = connected(user)
    user.mcp.call("set_user_profile", text="kept")
    workspace = user.workspace
    workspace.wait_for_another_pod(workspace.delete_pod())
    read = client.result("resources/read", {"uri": PROFILE})
    assert "kept" in read["contents"][0]["text"]
    assert set(read) == {"contents"}, "what is the newest revision's own has gone"
    ended = user.http.delete(client.url, headers=client.headers)
    assert ended.status_code == 204
    assert client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}).status_code == 404


def test_who_listens_hears_of_an_idle_stop_before_it(user: User) -> None:
    workspace = user.make_workspace(idleTimeout="10s")
    client = connected(user)
    heard: list[tuple[datetime, Message]] = []
    opened = threading.Event()

    def listen() -> None:
        with contextlib.suppress(httpx2.RemoteProtocolError), client.listen() as messages:
            opened.set()
            heard.extend((datetime.now(UTC), message) for message in messages)

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    assert opened.wait(30)
    workspace.wait("Suspended", within=60)
    listening.join(10)
    assert not listening.is_alive(), "the stream stayed open after the workspace was stopped"
    (notice,) = [(at, message["params"]) for at, message in heard if message["method"] == "notifications/message"]
    assert notice[1]["logger"] == "dexorder"
    assert "it is saved and stopped at" in notice[1]["data"]
    assert notice[0] < parse_time(workspace.status["suspendTime"])
    selector = f"--field-selector=involvedObject.uid={workspace.uid},reason=IdleStopAnnounced,type=Warning"
    assert workspace.kubectl.list("events", selector)


def test_a_client_that_says_much_of_itself_gets_a_session_too(settled_user: User) -> None:
    headers = {**settled_user.mcp.credentials, "Accept": ACCEPT, "MCP-Protocol-Version": REVISION}
    begun = settled_user.http.post(settled_user.endpoint, headers=headers, json=request("initialize", MUCH))
    assert begun.status_code == 200
    session = {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
    assert len(session["Mcp-Session-Id"]) <= 1536
    listed = settled_user.http.post(settled_user.endpoint, headers=headers | session, json=request("tools/list", {}))
    assert listed.json()["result"]["tools"]
