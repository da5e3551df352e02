"""A turn whose tools take long: the client's connection stays alive, and so does the workspace."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx2
import pytest

from support.chat import kept
from support.scripted_gateway import ScriptedGateway
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
RUNS = 3
"""Together they take longer than the silence after which the gateway says something."""


@pytest.fixture
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
