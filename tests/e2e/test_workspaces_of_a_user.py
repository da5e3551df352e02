"""More than one workspace of a user, and what becomes of the data when a workspace is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.kubectl import KubectlError
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.users import User
    from support.workspace import Workspace


def delete(workspace: Workspace) -> None:
    """Delete a workspace and wait until its pod is gone too."""
    workspace.kubectl.run("delete", "uws", workspace.name)
    eventually("the pod is gone", lambda: workspace.pod is None, within=60)


def test_two_workspaces_of_one_user_have_a_pod_and_a_claim_each(user: User) -> None:
    first = user.make_workspace(f"{user.id}-1")
    first.wait("Ready")
    second = user.make_workspace(f"{user.id}-2")
    second.wait("Ready")
    assert first.pod_uid != second.pod_uid
    claims = [first.claim, second.claim]
    assert len({claim["spec"]["volumeName"] for claim in claims if claim is not None}) == 2

    # The gateway always takes the oldest, so that a user finds again what they wrote.
    user.mcp.call("write_file", path="note.txt", content="mine")
    assert user.mcp.call("read_file", path="note.txt")["content"] == "mine"
    assert first.in_agent("cat", "/workspace/repository/note.txt") == "mine"
    try:
        second.in_agent("cat", "/workspace/repository/note.txt")
    except KubectlError as error:
        assert "No such file" in str(error)  # noqa: PT017
    else:
        message = "the note is in both workspaces"
        raise AssertionError(message)


def test_a_deleted_workspace_keeps_its_claim_and_the_user_finds_the_data_again(user: User) -> None:
    user.mcp.call("write_file", path="note.txt", content="kept")
    workspace = user.workspace
    claim = workspace.claim
    assert claim is not None
    delete(workspace)
    kept = workspace.claim
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    assert "deletionTimestamp" not in kept["metadata"]

    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"
    assert user.workspace.name == workspace.name


def test_another_user_does_not_get_the_data_by_the_name_of_the_workspace(new_user: Callable[[], User]) -> None:
    first, second = new_user(), new_user()
    workspace = first.make_workspace("shared-" + first.id)
    first.mcp.call("write_file", path="note.txt", content="the first user's")
    claim = workspace.claim
    assert claim is not None
    delete(workspace)

    taken = second.make_workspace(workspace.name)
    storage = taken.wait_reason("StorageReady", "ClaimOfAnotherUser")
    assert storage.status == "False"
    assert first.id in storage.message
    assert "give the workspace another name" in storage.message
    taken.wait_reason("Ready", "StorageNotReady")
    assert taken.pod is None
    kept = taken.claim
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    assert kept["metadata"]["annotations"]["dexorder.io/user-id"] == first.id


def test_a_claim_goes_with_its_workspace_where_the_manifest_says_so(user: User) -> None:
    workspace = user.make_workspace(storage={"retentionPolicy": "Delete"})
    workspace.wait("Ready")
    delete(workspace)
    eventually("the claim is gone", lambda: workspace.claim is None, within=60)


def test_deleting_a_suspended_workspace_keeps_its_claim(user: User) -> None:
    workspace = user.make_workspace()
    user.mcp.call("write_file", path="note.txt", content="kept")
    workspace.change(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended", within=40)
    delete(workspace)
    assert workspace.claim is not None
    user.make_workspace()
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"
