"""`operatingMode` says whether a workspace follows its user, is kept awake, or is kept stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.kubectl import KubectlError

if TYPE_CHECKING:
    from support.users import User


def test_suspended_stops_a_running_workspace_and_saves_it(user: User) -> None:
    workspace = user.make_workspace()
    commit = user.mcp.call("write_file", path="note.txt", content="kept")["commit"]
    workspace.change(operatingMode="Suspended")
    workspace.wait("Suspended", within=40)

    assert workspace.pod is None
    assert workspace.claim is not None
    suspended = workspace.condition("Suspended")
    assert suspended is not None
    assert suspended.reason == "Requested"
    status = workspace.status
    assert status["suspendReason"] == "Requested"
    assert status["savedCommit"] == commit
    assert "endpoint" not in status

    # Auto starts when it is touched: the next request does.
    workspace.change(operatingMode="Auto")
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"


def test_a_suspended_workspace_stays_stopped_whatever_touches_it(user: User) -> None:
    workspace = user.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    response = user.mcp.send("tools/list")
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["data"]["reason"] == "WorkspaceRefused"
    assert "operatingMode" in error["message"]
    assert workspace.pod is None
    found = workspace.condition("Ready")
    assert found is not None
    assert found.reason == "Suspended"


def test_running_keeps_a_workspace_awake_past_its_idle_timeout(user: User) -> None:
    workspace = user.make_workspace(idleTimeout="5s", operatingMode="Running")
    workspace.wait("Ready")
    before = workspace.pod_uid
    assert "idleDeadlineTime" not in workspace.status
    # An Auto workspace of this timeout is suspended well within this time: test_idle shows it.
    with pytest.raises(KubectlError, match="timed out"):
        workspace.kubectl.wait("uws", workspace.name, "condition=Suspended", within=9)
    assert workspace.pod_uid == before


def test_running_starts_a_stopped_workspace(user: User) -> None:
    workspace = user.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    workspace.change(operatingMode="Running")
    workspace.wait("Ready")
