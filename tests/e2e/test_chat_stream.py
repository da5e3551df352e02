"""A turn whose tools take long: the client's connection and the workspace stay alive. Who leaves ends the tools."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx2
import pytest

from support.chat import kept
from support.scripted_gateway import ScriptedGateway
from support.waiting import eventually
from support.workspace import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Kubectl
    from support.users import User

SLOW = '''"""Takes its time."""

import time

import numpy as np


def compute(close: np.ndarray) -> np.ndarray:
    time.sleep(9)
    return close
'''
ENDLESS = "def compute(close):\n    while True: pass\n"
SOON = 8.0
"""Less than what the user's code may take."""
RUNS = 3
"""Together they take longer than the silence after which the gateway says something."""


@pytest.fixture(scope="module")
def gateway(system: Kubectl, kubectl: Kubectl) -> Iterator[str]:
    """The URL of a gateway with a scripted model."""
    tier = kubectl.get("workspacetier", "standard")
    assert tier is not None
    scripted = ScriptedGateway(system, f"chat-stream-{secrets.token_hex(3)}", "openai")
    try:
        yield scripted.start(agent_image=tier["spec"]["image"])
    finally:
        scripted.stop()


def test_long_tools_keep_the_stream_alive_and_the_workspace_awake(user: User, gateway: str) -> None:
    """OpenAI's API has no word for a tool that runs here: its stream would be silent for all the runs."""
    workspace = user.make_workspace(idleTimeout="5s")
    user.mcp.call("save_indicator", name="slow", source=SLOW)
    pod = workspace.pod_uid
    conversation = f"c-{secrets.token_hex(6)}"
    script = 'call run_indicator {"name": "slow", "last": 1}\n' * RUNS + "say At last."
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": script}],
        "metadata": {"conversation_id": conversation},
        "stream": True,
    }
    lines: list[str] = []
    headers = {"Authorization": f"Bearer {user.token}"}
    with user.http.stream("POST", f"{gateway}/v1/chat/completions", json=body, headers=headers) as response:
        assert response.status_code == httpx2.codes.OK
        lines.extend(line for line in response.iter_lines() if line)
    ended = datetime.now(UTC).replace(microsecond=0)
    words = [place for place, line in enumerate(lines) if '"content":"' in line.replace(": ", ":")]
    assert [line for line in lines[: words[-1]] if line.startswith(":")], lines
    # It may stop once the turn is over, and not before.
    assert workspace.pod_uid in (pod, None)
    suspended = workspace.status.get("suspendTime")
    assert suspended is None or parse_time(suspended) >= ended
    messages = kept(user, conversation)
    assert messages[-1]["content"] == "At last."
    results = [json.loads(message["tool_calls"][0]["result"]) for message in messages[1:-1]]
    assert len(results) == RUNS
    assert all(result["milliseconds"] >= 9000 for result in results)


@pytest.mark.parametrize("path", ["events", "completions"])
def test_a_client_that_leaves_ends_the_code_in_the_workspace(settled_user: User, gateway: str, path: str) -> None:
    workspace = settled_user.workspace
    settled_user.mcp.call("save_indicator", name="endless", source=ENDLESS)
    conversation = f"c-{secrets.token_hex(6)}"
    said = [{"id": "1", "role": "user", "content": 'call run_indicator {"name": "endless", "last": 1}\nsay Never.'}]
    run = {"threadId": conversation, "runId": "1", "messages": said}
    completion = {
        "model": "default",
        "messages": said,
        "metadata": {"conversation_id": conversation},
        "stream": True,
    }

    headers = {"Authorization": f"Bearer {settled_user.token}"}
    body = run if path == "events" else completion
    with settled_user.http.stream("POST", f"{gateway}/v1/chat/{path}", json=body, headers=headers) as response:
        assert response.status_code == httpx2.codes.OK
        eventually("the code runs", lambda: workspace.busy() == ["run_indicator endless"], within=20)
        began = time.monotonic()
    eventually("the code has ended", lambda: not workspace.busy(), within=20)
    assert time.monotonic() - began < SOON
    messages = eventually(
        "the turn is kept", lambda: (found := kept(settled_user, conversation))[2:] and found, within=20
    )
    assert messages[1]["tool_calls"][0]["is_error"] is True
    assert messages[-1]["turn"]["state"] == "interrupted"
