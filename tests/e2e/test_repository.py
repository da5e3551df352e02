"""A workspace with a git remote: filled from it, pushed to it on each save and by the drain, and never written over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.git_server import SSHD, GitServer
from support.oidc_provider import address_towards
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.users import User
    from support.workspace import Workspace

INDICATOR = '"""Half of the price."""\n\n\ndef compute(close):\n    return close / 2\n'
PUSHED_SECONDS = 30


@pytest.fixture
def remote(tmp_path: Path, gateway_url: str) -> Iterator[GitServer]:
    if SSHD is None:
        pytest.skip("there is no sshd: install openssh-server")
    with GitServer(tmp_path, address_towards(gateway_url)) as server:
        yield server


@pytest.fixture
def workspace(user: User, remote: GitServer) -> Iterator[Workspace]:
    """A workspace of the user with the remote, whose credential is in a Secret and nowhere else."""
    remote.commit("indicators/half.py", INDICATOR)
    name = f"{user.id}-git"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": remote.credential}
    user.kubectl.apply(secret)
    yield user.make_workspace(repository={"url": remote.url, "secretRef": {"name": name}})
    user.kubectl.run("delete", "secret", name, "--wait=false")


def test_a_workspace_is_filled_from_its_remote_and_never_writes_over_it(
    user: User, workspace: Workspace, remote: GitServer
) -> None:
    mcp = user.mcp
    assert mcp.call("run_indicator", name="half", series={"close": [4]})["outputs"] == {"half": [2.0]}

    # On save, in the background.
    saved = mcp.call("write_file", path="notes/a.md", content="a\n")["commit"]
    eventually("the save at the remote", lambda: remote.commits("main")[:1] == [saved], within=PUSHED_SECONDS)

    # By the drain, merged with what came in between.
    theirs = remote.commit("notes/theirs.md", "theirs\n")
    workspace.in_agent("sh", "-c", "echo by hand > /workspace/repository/by-hand.txt")
    suspend(workspace)
    assert remote.read("main", "by-hand.txt") == "by hand"
    assert theirs in remote.commits("main")
    assert workspace.status["savedCommit"] in remote.commits("main")
    workspace.change(operatingMode="Auto")
    assert mcp.call("read_file", path="notes/theirs.md")["content"] == "theirs\n"

    # What contradicts the remote is kept beside it.
    theirs = remote.commit("notes/a.md", "theirs\n")
    ours = mcp.call("write_file", path="notes/a.md", content="ours\n")["commit"]
    branch = f"workspace/{workspace.name}"
    eventually("ours on a branch of its own", lambda: ours in remote.commits(branch), within=PUSHED_SECONDS)
    assert remote.commits("main")[0] == theirs
    assert mcp.call("read_file", path="notes/a.md")["content"] == "ours\n"


def test_the_credential_of_the_remote_is_in_no_log_no_setting_and_no_command_line(
    user: User, workspace: Workspace, remote: GitServer
) -> None:
    saved = user.mcp.call("write_file", path="notes/a.md", content="a\n")["commit"]
    eventually("the save at the remote", lambda: remote.commits("main")[:1] == [saved], within=PUSHED_SECONDS)
    secret = max(remote.credential["ssh-privatekey"].splitlines(), key=len)
    seen = [
        workspace.in_agent("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"),
        workspace.in_agent("cat", "/workspace/repository/.git/config"),
        user.kubectl.run("logs", workspace.child, "--all-containers"),
        user.kubectl.run("get", "pod", workspace.child, "--output", "yaml"),
        user.kubectl.run("get", "uws", workspace.name, "--output", "yaml"),
    ]
    assert all(secret not in text for text in seen)
    # It is where git's ssh reads it.
    assert secret in workspace.in_agent("cat", "/etc/dexorder/repository/ssh-privatekey")


def suspend(workspace: Workspace) -> None:
    workspace.change(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended", within=60)
