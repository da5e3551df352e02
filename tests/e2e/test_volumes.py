"""What can go wrong with a volume is named in a condition and an event; the start goes on once its cause is gone."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Kubectl, Object
    from support.users import User
    from support.workspace import Workspace

STOP_SECONDS = 60.0
GO_ON_SECONDS = 90.0
"""The scheduler and the controllers of volumes look again in their own time."""


def stopped(user: User) -> Workspace:
    """A workspace that has a file and is stopped."""
    workspace = user.make_workspace()
    user.mcp.call("write_file", path="note.txt", content="kept")
    workspace.change(operatingMode="Suspended")
    workspace.wait("Suspended", within=STOP_SECONDS)
    return workspace


def warned(workspace: Workspace, reason: str) -> None:
    """Wait for the event."""
    selector = f"--field-selector=involvedObject.uid={workspace.uid},reason={reason},type=Warning"
    eventually(f"an event {reason}", lambda: workspace.kubectl.list("events", selector), within=10)


def stranger(workspace: Workspace, image: str) -> Object:
    """A pod of somebody else on the workspace's volume."""
    security = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "reader",
        "image": image,
        "command": ["sleep", "600"],
        "securityContext": security,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": workspace.child}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"stranger-{secrets.token_hex(4)}"},
        "spec": {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0},
    }


def test_a_volume_that_another_pod_uses_is_named_and_the_start_goes_on_without_it(user: User, kubectl: Kubectl) -> None:
    workspace = stopped(user)
    standard = kubectl.get("workspacetier", "standard")
    assert standard is not None
    pod = stranger(workspace, standard["spec"]["image"])
    name = pod["metadata"]["name"]
    kubectl.apply(pod)
    try:
        kubectl.wait("pod", name, "condition=Ready", within=60)
        workspace.change(operatingMode="Running")
        found = workspace.wait_reason("Ready", "VolumeNotMounted", within=GO_ON_SECONDS)
        assert "another pod uses the volume" in found.message
        warned(workspace, "VolumeNotMounted")
    finally:
        kubectl.run("delete", "pod", name, "--ignore-not-found", "--wait=false")
    workspace.wait("Ready", within=GO_ON_SECONDS)
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"


def test_a_claim_that_somebody_deletes_is_used_to_its_end_and_followed_by_an_empty_one(user: User) -> None:
    workspace = user.make_workspace()
    user.mcp.call("write_file", path="note.txt", content="given up")
    claim, pod = workspace.claim, workspace.pod_uid
    assert claim is not None
    workspace.kubectl.run("delete", "pvc", workspace.child, "--wait=false")
    found = workspace.wait_reason("StorageReady", "ClaimTerminating")
    assert "a new one is made when it is gone" in found.message
    # Nothing is stopped for it.
    assert user.mcp.call("read_file", path="note.txt")["content"] == "given up"
    assert workspace.pod_uid == pod

    workspace.delete_pod()
    workspace.wait_for_another_pod(str(pod))
    workspace.wait("Ready", within=GO_ON_SECONDS)
    after = workspace.claim
    assert after is not None
    assert after["metadata"]["uid"] != claim["metadata"]["uid"]
    assert "note.txt" not in str(user.mcp.call("list_files"))


def test_a_volume_that_is_gone_is_named_and_nothing_is_made_in_its_place_unasked(user: User) -> None:
    workspace = stopped(user)
    claim = workspace.claim
    assert claim is not None
    volume = claim["spec"]["volumeName"]
    # As if it had gone without anybody's leave: what protects it is put in again as long as it is not being deleted.
    workspace.kubectl.run("delete", "pv", volume, "--wait=false")
    workspace.kubectl.patch("pv", volume, {"metadata": {"finalizers": None}})
    workspace.wait_reason("StorageReady", "ClaimLost")
    workspace.change(operatingMode="Running")
    found = workspace.wait_reason("Ready", "StorageNotReady")
    assert "restore it, or delete the claim to begin with an empty one" in found.message
    warned(workspace, "StorageNotReady")
    assert workspace.pod is None

    workspace.kubectl.run("delete", "pvc", workspace.child)
    workspace.wait("Ready", within=GO_ON_SECONDS)


@pytest.fixture
def missing_class(kubectl: Kubectl) -> Iterator[str]:
    """The name of a storage class that is not there yet."""
    name = f"later-{secrets.token_hex(4)}"
    yield name
    kubectl.run("delete", "storageclass", name, "--ignore-not-found")


def test_a_claim_that_gets_no_volume_is_named_and_the_start_goes_on_with_it(
    user: User, kubectl: Kubectl, missing_class: str
) -> None:
    workspace = user.make_workspace(storage={"storageClassName": missing_class})
    found = workspace.wait_reason("Ready", "StorageNotReady", within=GO_ON_SECONDS)
    assert found.status == "False"
    warned(workspace, "StorageNotReady")
    storage = workspace.condition("StorageReady")
    assert storage is not None
    assert storage.reason == "ClaimPending"

    usual = next(
        item
        for item in kubectl.list("storageclass")
        if item["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    )
    keep = {key: usual[key] for key in ("apiVersion", "kind", "provisioner", "volumeBindingMode")}
    kubectl.apply({**keep, "metadata": {"name": missing_class}, "parameters": usual.get("parameters", {})})
    workspace.wait("Ready", within=GO_ON_SECONDS)
    user.mcp.call("list_files")
