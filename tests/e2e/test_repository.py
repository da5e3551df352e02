"""A workspace with a git remote: filled from it, pushed to it on each save and by the drain, and never written over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.git_server import SSHD, GitServer
from support.oidc_provider import address_towards
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.users import User

INDICATOR = '"""Half of the price."""\n\n\ndef compute(close):\n    return close / 2\n'
PUSHED_SECONDS = 30


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, gateway_url: str) -> Iterator[GitServer]:
    if SSHD is None:
        pytest.skip("there is no sshd: install openssh-server")
    with GitServer(tmp_path_factory.mktemp("git"), address_towards(gateway_url)) as server:
        yield server


@pytest.fixture(scope="module")
def member(new_module_user: Callable[[], User], remote: GitServer) -> Iterator[User]:
    """A user whose workspace has the remote. Its credential is in a Secret and nowhere else."""
    user = new_module_user()
    remote.commit("indicators/half.py", INDICATOR)
    name = f"{user.id}-git"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": remote.credential}
    user.kubectl.apply(secret)
    user.make_workspace(repository={"url": remote.url, "secretRef": {"name": name}})
    yield user
    user.kubectl.run("delete", "secret", name, "--wait=false")


def save(user: User, path: str, content: str) -> str:
    """Save a file and return its commit."""
    commit: str = user.mcp.call("write_file", path=path, content=content)["commit"]
    return commit


def wait_for_push(remote: GitServer, commit: str, branch: str = "main") -> None:
    eventually("the save at the remote", lambda: remote.commits(branch)[:1] == [commit], within=PUSHED_SECONDS)


def test_a_workspace_is_filled_from_its_remote_and_pushes_each_save(member: User, remote: GitServer) -> None:
    run = member.mcp.call("run_indicator", name="half", series={"close": [4]})
    assert run["outputs"] == {"half": [2.0]}
    wait_for_push(remote, save(member, "notes/a.md", "a\n"))
    assert remote.read("main", "notes/a.md") == "a"


def test_the_credential_of_the_remote_is_in_no_log_no_setting_and_no_command_line(
    member: User, remote: GitServer
) -> None:
    secret = max(remote.credential["ssh-privatekey"].splitlines(), key=len)
    workspace, kubectl = member.workspace, member.kubectl
    wait_for_push(remote, save(member, "notes/b.md", "b\n"))
    seen = [
        workspace.in_agent("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"),
        workspace.in_agent("cat", "/workspace/repository/.git/config"),
        kubectl.run("logs", workspace.child, "--all-containers"),
        kubectl.run("get", "pod", workspace.child, "--output", "yaml"),
        kubectl.run("get", "uws", workspace.name, "--output", "yaml"),
    ]
    assert all(secret not in text for text in seen)
    # It is where git's ssh reads it.
    assert secret in workspace.in_agent("cat", "/etc/dexorder/repository/ssh-privatekey")


def test_the_drain_pushes_too_and_merges_what_came_in_between(member: User, remote: GitServer) -> None:
    workspace = member.workspace
    theirs = remote.commit("notes/theirs.md", "theirs\n")
    workspace.in_agent("sh", "-c", "echo by hand > /workspace/repository/by-hand.txt")
    workspace.change(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended", within=60)
    assert remote.read("main", "by-hand.txt") == "by hand"
    assert theirs in remote.commits("main")
    assert workspace.status["savedCommit"] in remote.commits("main")
    workspace.change(operatingMode="Auto")
    assert member.mcp.call("read_file", path="notes/theirs.md")["content"] == "theirs\n"


def test_what_contradicts_the_remote_is_kept_beside_it(member: User, remote: GitServer) -> None:
    theirs = remote.commit("notes/a.md", "theirs\n")
    ours = save(member, "notes/a.md", "ours\n")
    wait_for_push(remote, ours, f"workspace/{member.workspace.name}")
    assert remote.commits("main")[0] == theirs
    assert member.mcp.call("read_file", path="notes/a.md")["content"] == "ours\n"
