"""What each identity may do at the API server, what it must not, and what the gateway's admission policy refuses."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from support.access import Action, Identity, rules_of, try_as
from support.api import api
from support.kubectl import SYSTEM_NAMESPACE, WORKSPACE_NAMESPACE
from support.waiting import eventually
from support.workspace import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from support.kubectl import Kubectl, Object

OPERATOR = Identity.of_account("dexorder-operator")
GATEWAY = Identity.of_account("dexorder-gateway")
POD = Identity.of_account("default", WORKSPACE_NAMESPACE)
PERSON = Identity.of_person(f"e2e-desk-{secrets.token_hex(4)}")

MAY = {
    OPERATOR: [
        "get,list,watch userworkspaces.dexorder.io",
        "delete userworkspaces.dexorder.io in dexorder",
        "list events in dexorder",
        "get,list,watch workspacetiers.dexorder.io",
        "patch userworkspaces.dexorder.io/status in dexorder",
        "get,list,watch,create,patch,delete pods in dexorder",
        "get,list,watch,create,patch,delete persistentvolumeclaims in dexorder",
        "create,patch events.events.k8s.io in dexorder",
        "create leases.coordination.k8s.io in dexorder-system",
        "get,update leases.coordination.k8s.io in dexorder-system named dexorder-operator",
        "create secrets in dexorder-system",
        "get secrets in dexorder-system named dexorder-gateway-signing-key",
        "get secrets in dexorder-system named dexorder-operator-signing-key",
    ],
    GATEWAY: ["get,list,watch,create,patch userworkspaces.dexorder.io in dexorder"],
    PERSON: ["get,list,watch,create,update,patch,delete userworkspaces.dexorder.io in dexorder"],
}
MUST_NOT = {
    OPERATOR: [
        "create,update,patch userworkspaces.dexorder.io in dexorder",
        "create,update,patch,delete workspacetiers.dexorder.io",
        "create pods/exec in dexorder",
        "get pods/log in dexorder",
        "list,watch,get,update,delete secrets in dexorder-system",
        "get,list,create secrets in dexorder",
        "get,list secrets in kube-system",
        "get,update leases.coordination.k8s.io in dexorder-system named another",
        "get,update leases.coordination.k8s.io in kube-system named kube-scheduler",
        "get,list,create configmaps in dexorder-system",
        "create serviceaccounts/token in dexorder-system named dexorder-gateway",
        "get,list,update nodes",
        "create,bind,escalate clusterroles.rbac.authorization.k8s.io",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "create,update,delete validatingadmissionpolicies.admissionregistration.k8s.io",
        "update,patch,delete customresourcedefinitions.apiextensions.k8s.io",
        "impersonate users",
    ],
    GATEWAY: [
        "update,delete,deletecollection userworkspaces.dexorder.io in dexorder",
        "update,patch userworkspaces.dexorder.io/status in dexorder",
        "get,list,watch,create,patch userworkspaces.dexorder.io in default",
        "get,list,create,patch workspacetiers.dexorder.io",
        "get,list,create,patch,delete pods in dexorder",
        "create pods/exec in dexorder",
        "get pods/log in dexorder",
        "get,list,patch,delete persistentvolumeclaims in dexorder",
        "get,list,create secrets in dexorder",
        "get,list,create secrets in dexorder-system",
        "get,create leases.coordination.k8s.io in dexorder-system",
        "create serviceaccounts/token in dexorder-system named dexorder-operator",
        "create,update,delete validatingadmissionpolicies.admissionregistration.k8s.io",
        "impersonate users",
    ],
    PERSON: [
        "update,patch userworkspaces.dexorder.io/status in dexorder",
        "get,list,create,delete userworkspaces.dexorder.io in dexorder-system",
        "create,update,patch,delete workspacetiers.dexorder.io",
        "get,list,create,delete pods in dexorder",
        "get,list secrets in dexorder",
        "get,list secrets in dexorder-system",
        "patch,delete persistentvolumeclaims in dexorder",
    ],
}


@pytest.fixture(scope="module")
def client(kubectl: Kubectl) -> Iterator[httpx2.Client]:
    """The API server, as its administrator."""
    with api(kubectl) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def person(kubectl: Kubectl, client: httpx2.Client) -> Iterator[None]:
    """A person to whom the chart's role for people is bound in the namespace of the workspaces."""
    name = PERSON.user
    kubectl.run("create", "rolebinding", name, "--clusterrole=dexorder-workspaces-edit", f"--user={name}")
    action = Action.parse("list userworkspaces.dexorder.io in dexorder")[0]
    eventually("the role is bound", lambda: action.is_allowed(PERSON, client), within=30)
    yield
    kubectl.run("delete", "rolebinding", name, "--ignore-not-found")


def cases(table: dict[Identity, list[str]]) -> list[object]:
    return [
        pytest.param(identity, text, id=f"{identity.user.rsplit(':', 1)[-1].split('-desk-')[0]}: {text}")
        for identity, texts in table.items()
        for text in texts
    ]


@pytest.mark.parametrize(("identity", "text"), cases(MAY))
def test_may(identity: Identity, text: str, client: httpx2.Client) -> None:
    refused = [action.verb for action in Action.parse(text) if not action.is_allowed(identity, client)]
    assert refused == []


@pytest.mark.parametrize(("identity", "text"), cases(MUST_NOT))
def test_must_not(identity: Identity, text: str, client: httpx2.Client) -> None:
    allowed = [action.verb for action in Action.parse(text) if action.is_allowed(identity, client)]
    assert allowed == []


@pytest.mark.parametrize("namespace", [WORKSPACE_NAMESPACE, SYSTEM_NAMESPACE, "kube-system"])
def test_a_workspaces_pod_may_do_nothing_at_all(namespace: str, client: httpx2.Client) -> None:
    """Its service account has no rights, and no token of it is in the pod."""
    assert rules_of(POD, namespace, client) == set()


def test_the_gateway_may_do_nothing_but_read_make_and_touch_workspaces(client: httpx2.Client) -> None:
    verbs = ("get", "list", "watch", "create", "patch")
    assert rules_of(GATEWAY, WORKSPACE_NAMESPACE, client) == {f"{verb} userworkspaces.dexorder.io" for verb in verbs}
    assert rules_of(GATEWAY, SYSTEM_NAMESPACE, client) == set()


# The admission policy of the gateway.

WORKSPACES = f"/apis/dexorder.io/v1alpha1/namespaces/{WORKSPACE_NAMESPACE}/userworkspaces"
ANONYMOUS = {"dexorder.io/anonymous": "true"}
DIRECT = {"mode": "Direct", "direct": {"credentialsSecretRef": {"name": "users"}}}
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}


def workspace(*, metadata: Object | None = None, **spec: object) -> Object:
    """The manifest of a workspace that nobody has."""
    made = manifest("rbac-nobody", "rbac-nobody", **spec)
    made["metadata"] |= metadata or {}
    return made


def visitor(**spec: object) -> Object:
    return workspace(
        metadata={"labels": ANONYMOUS}, **{"userId": "anonymous:1", "tier": "free", "auth": {"mode": "Public"}, **spec}
    )


@pytest.mark.parametrize(
    "made",
    [workspace(), workspace(metadata={"annotations": {"dexorder.io/touched-at": "now"}}), visitor()],
    ids=["a login's", "a login's, touched", "a visitor's"],
)
def test_the_gateway_makes_a_workspace(made: Object, client: httpx2.Client) -> None:
    assert try_as(GATEWAY, client, "POST", WORKSPACES, made) == ""


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (workspace(auth=DIRECT), "make others with kubectl"),
        (workspace(auth={"mode": "Public"}), "make others with kubectl"),
        (workspace(tier="enterprise"), "make others with kubectl"),
        (workspace(userId="anonymous:1"), "make others with kubectl"),
        (visitor(tier="standard"), "make others with kubectl"),
        (visitor(userId="trader1"), "make others with kubectl"),
        (workspace(metadata={"labels": ANONYMOUS}), "anonymous visitors, and to them alone"),
        (visitor() | {"metadata": {"name": "rbac-nobody"}}, "anonymous visitors, and to them alone"),
        (workspace(template={"image": "localhost/evil:1"}), "may set userId, tier and auth.mode"),
        (workspace(idleTimeout="8h"), "may set userId, tier and auth.mode"),
        (
            workspace(repository={"url": "https://git.example.com/a.git", "secretRef": {"name": "a"}}),
            "may set userId, tier and auth.mode",
        ),
        (workspace(storage={"size": "1Ti"}), "may set userId, tier and auth.mode"),
        (workspace(operatingMode="Running"), "may set userId, tier and auth.mode"),
        (workspace(metadata={"ownerReferences": [OWNER]}), "without owners, finalizers"),
        (workspace(metadata={"finalizers": ["example.com/stay"]}), "without owners, finalizers"),
        (workspace(metadata={"annotations": {"dexorder.io/rotate-direct-key": "1"}}), "without owners, finalizers"),
    ],
)
def test_the_gateway_makes_no_other_workspace(made: Object, told: str, client: httpx2.Client) -> None:
    refusal = try_as(GATEWAY, client, "POST", WORKSPACES, made)
    assert refusal.startswith("Forbidden: ")
    assert told in refusal


@pytest.fixture(scope="module")
def stopped(client: httpx2.Client) -> Iterator[str]:
    """The path of an enterprise workspace of mode Direct that is kept stopped."""
    name = f"rbac-{secrets.token_hex(4)}"
    made = manifest(name, name, tier="enterprise", auth=DIRECT, operatingMode="Suspended")
    made["metadata"] |= {"annotations": {"example.com/desk": "rates"}, "labels": {"example.com/desk": "rates"}}
    client.post(WORKSPACES, json=made).raise_for_status()
    yield f"{WORKSPACES}/{name}"
    client.delete(f"{WORKSPACES}/{name}").raise_for_status()


@pytest.mark.parametrize("annotation", ["dexorder.io/touched-at", "dexorder.io/keep-awake-until"])
def test_the_gateway_touches_any_workspace(annotation: str, stopped: str, client: httpx2.Client) -> None:
    patch = {"metadata": {"annotations": {annotation: "2030-01-31T18:00:00Z"}}}
    assert try_as(GATEWAY, client, "PATCH", stopped, patch) == ""


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"spec": {"auth": {"mode": "Gateway", "direct": None}}}, "may not change the spec"),
        ({"spec": {"auth": {"direct": {"credentialsSecretRef": {"name": "mine"}}}}}, "may not change the spec"),
        ({"spec": {"tier": "standard"}}, "may not change the spec"),
        ({"spec": {"operatingMode": "Running"}}, "may not change the spec"),
        ({"spec": {"template": {"image": "localhost/evil:1"}}}, "may not change the spec"),
        ({"metadata": {"labels": ANONYMOUS}}, "may not change labels, owners and finalizers"),
        ({"metadata": {"labels": {"example.com/desk": None}}}, "may not change labels, owners and finalizers"),
        ({"metadata": {"finalizers": ["example.com/stay"]}}, "may not change labels, owners and finalizers"),
        ({"metadata": {"ownerReferences": [OWNER]}}, "may not change labels, owners and finalizers"),
        ({"metadata": {"annotations": {"dexorder.io/rotate-direct-key": "1"}}}, "may change only the annotations"),
        ({"metadata": {"annotations": {"example.com/desk": "other"}}}, "may change only the annotations"),
        ({"metadata": {"annotations": {"example.com/desk": None}}}, "may change only the annotations"),
    ],
)
def test_the_gateway_changes_nothing_else(patch: Object, told: str, stopped: str, client: httpx2.Client) -> None:
    refusal = try_as(GATEWAY, client, "PATCH", stopped, patch)
    assert refusal.startswith("Forbidden: ")
    assert told in refusal


def test_the_policies_bind_nobody_else(stopped: str, client: httpx2.Client) -> None:
    assert try_as(PERSON, client, "POST", WORKSPACES, workspace(template={"image": "localhost/mine:1"})) == ""
    assert try_as(PERSON, client, "PATCH", stopped, {"spec": {"auth": {"mode": "Gateway", "direct": None}}}) == ""
