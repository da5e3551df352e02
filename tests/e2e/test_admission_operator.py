"""What the operator may write at the API server, and what its admission policy refuses although RBAC allows it."""

from __future__ import annotations

import copy
import secrets
from typing import TYPE_CHECKING

import pytest

from support.access import Identity, try_as
from support.api import api
from support.kubectl import SYSTEM_NAMESPACE, WORKSPACE_NAMESPACE
from support.workspace import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from support.kubectl import Kubectl, Object
    from support.users import User

OPERATOR = Identity.of_account("dexorder-operator")
WORKSPACES = f"/apis/dexorder.io/v1alpha1/namespaces/{WORKSPACE_NAMESPACE}/userworkspaces"
PODS = f"/api/v1/namespaces/{WORKSPACE_NAMESPACE}/pods"
CLAIMS = f"/api/v1/namespaces/{WORKSPACE_NAMESPACE}/persistentvolumeclaims"
SECRETS = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"
ANONYMOUS = {"dexorder.io/anonymous": "true"}
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}


@pytest.fixture(scope="module")
def client(kubectl: Kubectl) -> Iterator[httpx2.Client]:
    """The API server, as its administrator."""
    with api(kubectl) as client:
        yield client


@pytest.mark.parametrize("name", ["dexorder-gateway-signing-key", "dexorder-operator-signing-key"])
def test_the_operator_makes_the_secrets_of_the_signing_keys(name: str, client: httpx2.Client) -> None:
    refusal = try_as(OPERATOR, client, "POST", SECRETS, {"metadata": {"name": name}})
    assert refusal == "" or refusal.startswith("AlreadyExists")


def test_the_operator_makes_no_other_secret(client: httpx2.Client) -> None:
    metadata = {"name": "token", "annotations": {"kubernetes.io/service-account.name": "dexorder-gateway"}}
    made = {"metadata": metadata, "type": "kubernetes.io/service-account-token"}
    refusal = try_as(OPERATOR, client, "POST", SECRETS, made)
    assert "no Secrets but those of the two signing keys" in refusal


@pytest.fixture(scope="module")
def pod(settled_user: User) -> Object:
    """The manifest of a workspace's pod as the operator made it, under another name."""
    made = settled_user.workspace.pod
    assert made is not None
    metadata = {"name": "rbac-nobody", "labels": made["metadata"]["labels"]}
    spec = {key: value for key, value in made["spec"].items() if key not in {"nodeName", "priority"}}
    return {"metadata": metadata, "spec": spec}


def test_the_operator_makes_a_workspaces_pod(pod: Object, client: httpx2.Client) -> None:
    assert try_as(OPERATOR, client, "POST", PODS, pod) == ""


def changed(pod: Object, change: str) -> Object:
    """The pod with one thing that no workspace's pod has."""
    pod = copy.deepcopy(pod)
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    match change:
        case "another application's label":
            pod["metadata"]["labels"]["app.kubernetes.io/name"] = "database"
        case "a service account's token":
            spec["automountServiceAccountToken"] = True
        case "another service account":
            spec["serviceAccountName"] = "privileged"
        case "a token in a volume":
            token = {"serviceAccountToken": {"path": "token"}}
            spec["volumes"].append({"name": "token", "projected": {"sources": [token]}})
        case "the node's files":
            spec["volumes"].append({"name": "node", "hostPath": {"path": "/"}})
        case "the node's network":
            spec["hostNetwork"] = True
        case "privileges":
            container["securityContext"]["allowPrivilegeEscalation"] = True
        case "a capability":
            container["securityContext"]["capabilities"]["add"] = ["NET_BIND_SERVICE"]
        case _:
            raise AssertionError(change)
    return pod


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("another application's label", "only pods and claims with the label"),
        ("a service account's token", "no pods with a service account's token"),
        ("another service account", "no pods with a service account's token"),
        ("a token in a volume", "no pods with a service account's token"),
        ("the node's files", "no pods with a service account's token"),
        ("the node's network", "no pods with a service account's token"),
        ("privileges", "no containers with privileges"),
        ("a capability", "no containers with privileges"),
    ],
)
def test_the_operator_makes_no_other_pod(change: str, told: str, pod: Object, client: httpx2.Client) -> None:
    # In a namespace without a pod security standard the policy alone stands in the way.
    path = PODS.replace(WORKSPACE_NAMESPACE, SYSTEM_NAMESPACE)
    refusal = try_as(OPERATOR, client, "POST", path, changed(pod, change))
    if change == "another service account":
        assert refusal.startswith("Forbidden: ")
    else:
        assert told in refusal


def test_the_operator_deletes_only_what_is_a_workspaces(system: Kubectl, client: httpx2.Client) -> None:
    pods = system.list("pods", "--selector=app.kubernetes.io/name=dexorder-gateway")
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{pods[0]['metadata']['name']}"
    assert "only pods and claims with the label" in try_as(OPERATOR, client, "DELETE", path)


@pytest.fixture(scope="module")
def running(settled_user: User) -> str:
    """The path of a running workspace's pod."""
    return f"{PODS}/{settled_user.workspace.child}"


def test_the_operator_tells_a_running_pod_of_other_keys(running: str, client: httpx2.Client) -> None:
    patch = {"metadata": {"annotations": {"dexorder.io/identity-keys": "{}"}}}
    assert try_as(OPERATOR, client, "PATCH", running, patch) == ""


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"annotations": {"dexorder.io/template-hash": "0"}}},
        {"metadata": {"annotations": {"dexorder.io/template-hash": None}}},
        {"metadata": {"annotations": {"example.com/desk": "rates"}}},
        {"metadata": {"labels": {"dexorder.io/egress": "Any"}}},
        {"metadata": {"ownerReferences": None}},
        {"metadata": {"finalizers": ["example.com/stay"]}},
        {"spec": {"activeDeadlineSeconds": 1}},
    ],
    ids=str,
)
def test_the_operator_changes_nothing_else_of_a_pod(patch: Object, running: str, client: httpx2.Client) -> None:
    assert "the annotation dexorder.io/identity-keys alone" in try_as(OPERATOR, client, "PATCH", running, patch)


def test_the_operator_deletes_the_workspaces_of_visitors_and_no_other(kubectl: Kubectl, client: httpx2.Client) -> None:
    name = f"rbac-{secrets.token_hex(4)}"
    cases = {
        "visitor": (f"anonymous:{name}", ANONYMOUS, ""),
        "label": (name, ANONYMOUS, "no workspaces but those of anonymous visitors"),
        "user": (f"anonymous:{name}", {}, "no workspaces but those of anonymous visitors"),
    }
    made = []
    try:
        for case, (user, labels, told) in cases.items():
            visitors = {"tier": "free", "auth": {"mode": "Public"}, "operatingMode": "Suspended"}
            workspace = manifest(f"{name}-{case}", user, **visitors)
            workspace["metadata"]["labels"] = labels
            client.post(WORKSPACES, json=workspace).raise_for_status()
            made.append(f"uws/{name}-{case}")
            refusal = try_as(OPERATOR, client, "DELETE", f"{WORKSPACES}/{name}-{case}")
            assert told in refusal if told else refusal == ""
    finally:
        kubectl.run("delete", "--ignore-not-found", "--wait=false", *made)


def test_the_operator_takes_over_no_foreign_claim(kubectl: Kubectl, client: httpx2.Client) -> None:
    name = f"rbac-{secrets.token_hex(4)}"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    client.post(CLAIMS, json={"metadata": {"name": name}, "spec": spec}).raise_for_status()
    try:
        patch = {"metadata": {"labels": {"app.kubernetes.io/name": "dexorder-workspace"}}}
        assert "may not take over" in try_as(OPERATOR, client, "PATCH", f"{CLAIMS}/{name}", patch)
        assert "only pods and claims with the label" in try_as(OPERATOR, client, "DELETE", f"{CLAIMS}/{name}")
    finally:
        kubectl.run("delete", "pvc", name, "--ignore-not-found", "--wait=false")


WORKSPACE = {"apiVersion": "dexorder.io/v1alpha1", "kind": "UserWorkspace", "name": "nobody", "uid": "b"}
APP = {"app.kubernetes.io/name": "dexorder-workspace"}
FREE = APP | {"dexorder.io/pool": "standard"}
GIVEN = {"dexorder.io/workspace": "nobody", "dexorder.io/pool": None}
TAKEOVER: Object = {
    "labels": GIVEN,
    "ownerReferences": [WORKSPACE],
    "annotations": {"dexorder.io/assignment": "{}"},
}


@pytest.fixture(scope="module")
def member(pod: Object, client: httpx2.Client) -> Iterator[str]:
    """The path of a free member's pod that no node takes, under a name that no pool has."""
    name = f"rbac-{secrets.token_hex(4)}"
    made = {"metadata": {"name": name, "labels": FREE}, "spec": pod["spec"] | {"schedulerName": "nobody"}}
    client.post(PODS, json=made).raise_for_status()
    yield f"{PODS}/{name}"
    client.delete(f"{PODS}/{name}").raise_for_status()


def test_the_operator_gives_a_free_member_to_a_workspace(member: str, client: httpx2.Client) -> None:
    assert try_as(OPERATOR, client, "PATCH", member, {"metadata": TAKEOVER}) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"labels": GIVEN | {"dexorder.io/pool": "standard"}},
        {"labels": GIVEN | {"dexorder.io/egress": "Any"}},
        {"labels": GIVEN | {"app.kubernetes.io/name": None}},
        {"labels": GIVEN | {"dexorder.io/workspace": "somebody"}},
        {"ownerReferences": []},
        {"ownerReferences": [OWNER]},
        {"ownerReferences": [WORKSPACE, WORKSPACE | {"uid": "c"}]},
        {"ownerReferences": [WORKSPACE | {"name": "somebody"}]},
        {"annotations": {"dexorder.io/assignment": "{}", "dexorder.io/template-hash": "0"}},
        {"finalizers": ["example.com/stay"]},
    ],
    ids=str,
)
def test_the_operator_gives_no_member_in_another_way(change: Object, member: str, client: httpx2.Client) -> None:
    refusal = try_as(OPERATOR, client, "PATCH", member, {"metadata": TAKEOVER | change})
    assert refusal.startswith("Forbidden: ")


def test_the_operator_gives_nobody_a_workspaces_pod(running: str, client: httpx2.Client) -> None:
    refusal = try_as(OPERATOR, client, "PATCH", running, {"metadata": TAKEOVER})
    assert "give a free member of the warm pool" in refusal


@pytest.mark.parametrize(
    ("labels", "annotations", "told"),
    [
        (FREE, {}, ""),
        (APP, {}, "no claims but those of free members"),
        (APP | {"dexorder.io/workspace": "nobody"}, {}, "no claims but those of free members"),
        (FREE | {"dexorder.io/workspace": "nobody"}, {}, "no claims but those of free members"),
        (FREE, {"dexorder.io/user-id": "nobody"}, "no claims but those of free members"),
    ],
    ids=["a free member's", "nobody's", "a workspace's", "one that is being taken over", "one that bears a user"],
)
def test_the_operator_deletes_the_claims_of_free_members_alone(
    labels: dict[str, str], annotations: dict[str, str], told: str, client: httpx2.Client
) -> None:
    name = f"rbac-{secrets.token_hex(4)}"
    spec = {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    client.post(CLAIMS, json={"metadata": metadata, "spec": spec}).raise_for_status()
    try:
        refusal = try_as(OPERATOR, client, "DELETE", f"{CLAIMS}/{name}")
        assert told in refusal if told else refusal == ""
        # Whatever it is, it may be given to whoever it belongs to, and to nobody without the product's label.
        given = {"labels": GIVEN, "annotations": {"dexorder.io/user-id": "nobody", "dexorder.io/auth-mode": "Gateway"}}
        assert try_as(OPERATOR, client, "PATCH", f"{CLAIMS}/{name}", {"metadata": given}) == ""
    finally:
        client.delete(f"{CLAIMS}/{name}").raise_for_status()
