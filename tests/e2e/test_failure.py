"""What can go wrong with a pod is named in a condition, and put right without help once its cause is gone."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.processes import signal_first, stopped
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.users import User
    from support.workspace import Workspace

AWAY_SECONDS = 5.0
"""Less than after which the control plane's other programs, and the operator, give up their leases."""
TOO_MUCH = "import os; os.posix_fallocate(os.open('/tmp/much', os.O_CREAT | os.O_WRONLY), 0, 1100 << 20)"
"""Makes more of temporary files than the pod may have, for which the kubelet evicts it."""
MISSING_IMAGE = "localhost/dexorder/no-such-agent:1"


def image_of(workspace: Workspace, kind: str) -> str:
    """The image of the pod's `initContainers` or `containers`."""
    pod = workspace.pod
    assert pod is not None
    image: str = pod["spec"][kind][0]["image"]
    return image


def test_an_image_that_is_missing_is_named_and_another_one_starts(user: User) -> None:
    workspace = user.make_workspace(template={"image": MISSING_IMAGE})
    ready = workspace.wait_reason("Ready", "ImagePullFailed", within=60)
    assert ready.status == "False"
    assert MISSING_IMAGE in ready.message
    assert "spec.template" in ready.message

    remove = [{"op": "remove", "path": "/spec/template"}]
    workspace.kubectl.run("patch", "uws", workspace.name, "--type=json", "--patch", json.dumps(remove))
    workspace.wait("Ready")
    assert "run_indicator" in user.mcp.tools()


def test_a_user_whose_workspace_can_not_start_is_told_why(user: User) -> None:
    workspace = user.make_workspace(template={"image": MISSING_IMAGE})
    workspace.wait_reason("Ready", "ImagePullFailed", within=60)
    response = user.mcp.send("tools/list")
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["data"]["reason"] == "WorkspaceRefused"
    assert MISSING_IMAGE in error["message"]


def test_an_image_that_is_no_agent_says_so(user: User) -> None:
    """The sidecar's own image ends at once when it is started as an agent."""
    workspace = user.make_workspace()
    workspace.wait("Ready")
    wrong = image_of(workspace, "initContainers")
    workspace.change(operatingMode="Suspended", template={"image": wrong})
    workspace.wait_reason("Ready", "Suspended", within=40)
    workspace.change(operatingMode="Running")
    ready = workspace.wait_reason("Ready", "CrashLoop", within=60)
    assert ready.status == "False"
    assert "container agent" in ready.message
    assert "kubectl logs" in ready.message


def test_an_agent_without_memory_is_named_and_more_of_it_starts(user: User) -> None:
    workspace = user.make_workspace(template={"resources": {"limits": {"memory": "24Mi"}}})
    ready = workspace.wait_reason("Ready", "OutOfMemory", within=60)
    assert ready.status == "False"
    assert "container agent" in ready.message
    assert "resources.limits.memory" in ready.message
    claim = workspace.claim
    assert claim is not None
    workspace.change(template={"resources": {"limits": {"memory": "512Mi"}}})
    workspace.wait("Ready")
    assert "run_indicator" in user.mcp.tools()
    after = workspace.claim
    assert after is not None
    assert after["metadata"]["uid"] == claim["metadata"]["uid"]


def test_a_changed_manifest_reaches_the_pod_at_its_next_start(user: User) -> None:
    variable: dict[str, Any] = {"env": [{"name": "TRADING_DESK", "value": "two"}]}
    workspace = user.make_workspace(template={"env": [{"name": "TRADING_DESK", "value": "one"}]})
    workspace.wait("Ready")
    assert workspace.in_agent("printenv", "TRADING_DESK").strip() == "one"
    workspace.change(template=variable, operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended", within=40)
    workspace.change(operatingMode="Running")
    workspace.wait("Ready")
    assert workspace.in_agent("printenv", "TRADING_DESK").strip() == "two"


def test_an_agent_that_is_killed_comes_back_in_its_pod(user: User) -> None:
    user.mcp.call("write_file", path="note.txt", content="kept")
    workspace = user.workspace
    before = workspace.pod_uid
    started = container_start(workspace)
    # PID 1 of a container takes only signals that it handles: the agent ends on SIGTERM by itself.
    workspace.in_agent("sh", "-c", "kill -TERM 1")
    eventually("the agent's container starts again", lambda: container_start(workspace) != started, within=30)
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"
    assert workspace.pod_uid == before


def test_a_sidecar_that_hangs_is_named_and_started_anew(user: User) -> None:
    workspace = user.make_workspace()
    user.mcp.call("write_file", path="note.txt", content="kept")
    # The first answer may come before the kubelet finds the pod ready.
    workspace.wait("Ready")
    before, pod = sidecar_of(workspace), workspace.pod_uid
    signal_first(before, signal.SIGSTOP)
    found = workspace.wait_reason("Ready", "SidecarSilent", within=60)
    assert found.status == "False"
    assert "the kubelet restarts it" in found.message
    selector = f"--field-selector=involvedObject.uid={workspace.uid},reason=SidecarSilent,type=Warning"
    eventually("an event", lambda: workspace.kubectl.list("events", selector), within=10)
    eventually("another container", lambda: sidecar_of(workspace) not in ("", before), within=90)
    workspace.wait("Ready")
    assert workspace.pod_uid == pod
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"


def test_an_evicted_pod_is_named_and_followed_by_another_on_the_same_volume(user: User) -> None:
    workspace = user.make_workspace()
    user.mcp.call("write_file", path="note.txt", content="kept")
    before = workspace.pod_uid
    assert before is not None
    workspace.in_agent("python3", "-c", TOO_MUCH)
    selector = f"--field-selector=involvedObject.uid={workspace.uid},reason=Evicted,type=Warning"
    eventually("an event", lambda: workspace.kubectl.list("events", selector), within=90)
    workspace.wait_for_another_pod(before)
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"


def test_running_workspaces_answer_while_the_api_server_is_away_and_newcomers_after(
    settled_user: User, new_user: Callable[[], User]
) -> None:
    newcomer = new_user()
    newcomers_tools: list[str] = []
    coming = threading.Thread(target=lambda: newcomers_tools.extend(newcomer.mcp.tools()), daemon=True)
    until = time.monotonic() + AWAY_SECONDS
    answers = 0
    with stopped("kube-apiserver"):
        coming.start()
        while time.monotonic() < until:
            settled_user.mcp.call("write_file", path="note.txt", content=str(answers))
            answers += 1
        assert not newcomers_tools, "a workspace was made without the API server"
    assert answers > 1
    coming.join(120)
    assert "run_indicator" in newcomers_tools


def sidecar_of(workspace: Workspace) -> str:
    """The ID of the sidecar's container that runs."""
    pod = workspace.pod
    assert pod is not None
    status = pod["status"]["initContainerStatuses"][0]
    return str(status["containerID"]).partition("://")[2] if "running" in status["state"] else ""


def container_start(workspace: Workspace) -> str | None:
    """When the agent's container last started."""
    pod = workspace.pod
    assert pod is not None
    running: dict[str, str] | None = pod["status"]["containerStatuses"][0]["state"].get("running")
    return None if running is None else running["startedAt"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def compute(close):\n    return close[0] / 0 * nothing\n", "nothing"),
        ("def compute(close):\n    while True:\n        pass\n", "10"),
        ("def compute(close):\n    return [0] * 10**10\n", "memory"),
        ("import os\n\n\ndef compute(close):\n    os._exit(3)\n", "status 3"),
    ],
    ids=["an exception", "an endless loop", "too much memory", "an end of its process"],
)
def test_bad_code_of_the_user_is_an_error_and_the_agent_goes_on(source: str, told: str, settled_user: User) -> None:
    mcp = settled_user.mcp
    mcp.call("save_indicator", name="bad", source=f'"""Fails."""\n\n{source}')
    result = mcp.request("tools/call", {"name": "run_indicator", "arguments": {"name": "bad"}})
    assert result["isError"] is True
    assert told in result["content"][0]["text"]
    assert mcp.call("run_indicator", name="rsi", last=1)["outputs"]["rsi"]
