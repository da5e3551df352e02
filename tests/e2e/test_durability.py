"""What a user saved is there after whatever ends the pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.cluster import cluster_command

if TYPE_CHECKING:
    from support.users import User

STRATEGY = '''"""Long above the slow average."""

import numpy as np

from indicators.sma import compute as sma


def signals(close: np.ndarray, *, slow: int = 100) -> np.ndarray:
    return np.where(close > sma(close, period=slow), 1.0, 0.0)
'''


def save_strategy(user: User) -> str:
    """Save a strategy of the user's own and return its commit."""
    saved = user.mcp.call("save_strategy", name="above_average", source=STRATEGY)
    assert saved["changed"] is True
    commit: str = saved["commit"]
    return commit


def assert_strategy_is_there(user: User, commit: str) -> None:
    mcp = user.mcp
    assert mcp.call("show_strategy", name="above_average")["source"] == STRATEGY
    assert mcp.call("run_strategy", name="above_average", last=1)["outputs"]
    log = user.workspace.git_log()
    assert f"{commit} Save the strategy above_average" in log.splitlines()


def test_a_strategy_survives_the_deletion_of_the_pod(user: User) -> None:
    commit = save_strategy(user)
    workspace = user.workspace
    before = workspace.delete_pod()
    # A call at once finds the pod ending, or gone, or starting again: it is answered all the same.
    assert user.mcp.call("show_strategy", name="above_average")["source"] == STRATEGY
    workspace.wait_for_another_pod(before)
    assert_strategy_is_there(user, commit)


def test_a_strategy_survives_a_pod_that_is_killed_without_notice(user: User) -> None:
    commit = save_strategy(user)
    workspace = user.workspace
    before = workspace.pod_uid
    workspace.kubectl.run("delete", "pod", workspace.child, "--grace-period=0", "--force")
    assert_strategy_is_there(user, commit)
    assert workspace.pod_uid not in (None, before)


def test_a_strategy_survives_an_idle_suspend(user: User) -> None:
    workspace = user.make_workspace(idleTimeout="5s")
    commit = save_strategy(user)
    before = workspace.pod_uid
    workspace.wait_reason("Ready", "Suspended", within=40)
    assert workspace.pod is None
    claim = workspace.claim
    assert claim is not None
    assert claim["status"]["phase"] == "Bound"
    saved = workspace.condition("Saved")
    assert saved is not None
    assert (saved.status, saved.reason) == ("True", "Saved")
    assert workspace.status["savedCommit"] == commit

    assert_strategy_is_there(user, commit)
    assert workspace.pod_uid not in (None, before)


def test_a_file_that_the_agent_was_writing_outside_of_a_tool_is_committed_by_the_drain(user: User) -> None:
    """A person with a shell in the pod leaves a file uncommitted; the suspend commits it."""
    workspace = user.make_workspace()
    assert user.mcp.call("list_files")["files"]
    workspace.in_agent("sh", "-c", "echo by hand > /workspace/repository/by-hand.txt")
    workspace.change(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended", within=40)
    workspace.change(operatingMode="Auto")
    assert user.mcp.call("read_file", path="by-hand.txt")["content"] == "by hand\n"
    log = user.mcp.call("history_log", path="by-hand.txt")["commits"]
    assert [commit["commit"] for commit in log] == [workspace.status["savedCommit"]]


def test_a_strategy_survives_a_restart_of_the_nodes_kubelet_and_containerd(user: User) -> None:
    commit = save_strategy(user)
    cluster_command("restart-node")
    assert_strategy_is_there(user, commit)
