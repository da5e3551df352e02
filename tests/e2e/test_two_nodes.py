"""A workspace of a lost node moves if its storage is shared, and says why it can't if that is the node's own disk."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from support.cluster import cluster_command
from support.waiting import eventually
from support.workspace import tier_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.kubectl import Kubectl, Object
    from support.users import User
    from support.workspace import Workspace

NODE = "node-1"
TAINT = "dexorder.io/second-node"
LOST_SECONDS = 180.0
"""Kubernetes finds a node lost after 50 s, and removes the pods of a deleted one after a minute or so."""


def tier(name: str, storage_class: str, *, only_second: bool) -> Object:
    """A tier whose pods may run on the second node, or must."""
    scheduling: Object = {"tolerations": [{"key": TAINT, "operator": "Exists"}]}
    if only_second:
        scheduling["nodeSelector"] = {"kubernetes.io/hostname": NODE}
    storage = {"size": "1Gi", "storageClassName": storage_class, "retentionPolicy": "Retain"}
    return tier_manifest(name, storage=storage, scheduling=scheduling)


@pytest.fixture
def second_node(kubectl: Kubectl) -> Iterator[str]:
    """A second node; afterwards it is gone, and so is what ran there."""
    try:
        cluster_command("node", "add")
        yield NODE
    finally:
        cluster_command("node", "remove")
        eventually("no pod is left on it", lambda: not pods_on(kubectl, NODE), within=60)


@pytest.fixture
def tiers(kubectl: Kubectl) -> Iterator[dict[str, str]]:
    """A tier on each kind of storage, by the storage's class."""
    names = {kind: f"{kind}-{secrets.token_hex(3)}" for kind in ("local", "shared")}
    for kind, name in names.items():
        kubectl.apply(tier(name, kind, only_second=True))
    try:
        yield names
    finally:
        kubectl.run("delete", "workspacetier", *names.values(), "--ignore-not-found")


def pods_on(kubectl: Kubectl, node: str) -> list[Object]:
    return kubectl.list("pods", f"--field-selector=spec.nodeName={node}")


def node_of(workspace: Workspace) -> str:
    pod = workspace.pod
    assert pod is not None
    name: str = pod["spec"]["nodeName"]
    return name


def test_a_workspace_of_a_lost_node_moves_or_says_why_it_can_not(
    new_user: Callable[[], User], kubectl: Kubectl, tiers: dict[str, str], second_node: str
) -> None:
    image = kubectl.get("workspacetier", "standard")
    assert image is not None
    template = {"image": image["spec"]["image"]}
    users = {kind: new_user() for kind in tiers}
    spaces = {
        kind: user.make_workspace(tier=tiers[kind], operatingMode="Running", template=template)
        for kind, user in users.items()
    }
    for kind, workspace in spaces.items():
        workspace.wait("Ready", within=120)
        assert node_of(workspace) == second_node
        users[kind].mcp.call("write_file", path="note.txt", content=f"on {kind}")
    before = {kind: workspace.pod_uid for kind, workspace in spaces.items()}

    cluster_command("node", "stop")
    for workspace in spaces.values():
        lost = workspace.wait_reason("Ready", "NodeLost", within=LOST_SECONDS)
        assert second_node in lost.message
    # A pod on a node that is only out of reach may still write: there is no second one.
    assert {kind: workspace.pod_uid for kind, workspace in spaces.items()} == before

    # Somebody who knows that it is off says so.
    kubectl.apply(tier(tiers["shared"], "shared", only_second=False))
    kubectl.run("delete", "node", second_node)
    spaces["shared"].wait("Ready", within=LOST_SECONDS)
    assert node_of(spaces["shared"]) != second_node
    assert users["shared"].mcp.call("read_file", path="note.txt")["content"] == "on shared"

    stuck = spaces["local"].wait_reason("Ready", "Unschedulable", within=LOST_SECONDS)
    assert stuck.status == "False"
    assert "node" in stuck.message

    cluster_command("node", "add")
    spaces["local"].wait("Ready", within=LOST_SECONDS)
    assert node_of(spaces["local"]) == second_node
    assert users["local"].mcp.call("read_file", path="note.txt")["content"] == "on local"
