"""A bad manifest is refused by the API server, or named in a condition, with a message that says what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.workspace import manifest

if TYPE_CHECKING:
    from support.kubectl import Kubectl, Object
    from support.users import User

OIDC = {"issuer": "https://login.example.com", "audience": "workspaces"}
KEYS = {**OIDC, "jwksUri": "https://login.example.com/keys"}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "negative duration": ({"idleTimeout": "-5m"}, "idleTimeout must be from 5s to 720h, written like 30m or 1h30m"),
    "duration in words": ({"idleTimeout": "5 minutes"}, "written like 30m or 1h30m"),
    "duration without a unit": ({"idleTimeout": "300"}, "written like 30m or 1h30m"),
    "duration in days": ({"idleTimeout": "7d"}, "written like 30m or 1h30m"),
    "fraction of an hour": ({"idleTimeout": "1.5h"}, "written like 30m or 1h30m"),
    "empty duration": ({"idleTimeout": ""}, "written like 30m or 1h30m"),
    "absurd duration": ({"idleTimeout": "99999h"}, "idleTimeout must be from 5s to 720h"),
    "duration of nothing": ({"idleTimeout": "0s"}, "idleTimeout must be from 5s to 720h"),
    "number as duration": ({"idleTimeout": 300}, "must be of type string"),
    "Direct without direct": ({"auth": {"mode": "Direct"}}, "auth.mode Direct needs auth.direct: give oidc"),
    "direct without Direct": (
        {"auth": {"mode": "Gateway", "direct": {"oidc": KEYS}}},
        "auth.direct is for auth.mode Direct alone: remove it or set mode to Direct",
    ),
    "Direct with both ways": (
        {"auth": {"mode": "Direct", "direct": {"oidc": KEYS, "credentialsSecretRef": {"name": "x"}}}},
        "auth.direct takes exactly one of oidc and credentialsSecretRef",
    ),
    "Direct with neither way": (
        {"auth": {"mode": "Direct", "direct": {}}},
        "auth.direct takes exactly one of oidc and credentialsSecretRef",
    ),
    "OIDC without keys": (
        {"auth": {"mode": "Direct", "direct": {"oidc": OIDC}}},
        "oidc takes exactly one of jwksUri and jwks",
    ),
    "size in words": ({"storage": {"size": "lots"}}, "such as 1Gi"),
    "negative size": ({"storage": {"size": "-1Gi"}}, "such as 1Gi"),
    "size of nothing": ({"storage": {"size": "0"}}, "such as 1Gi"),
    "unknown auth mode": ({"auth": {"mode": "Password"}}, 'supported values: "Public", "Gateway", "Direct"'),
    "unknown operating mode": ({"operatingMode": "Off"}, 'supported values: "Auto", "Running", "Suspended"'),
    "the operator's own variable": (
        {"template": {"env": [{"name": "DEXORDER_ACCESS", "value": "Full"}]}},
        "names that start with DEXORDER_ are the operator's own: choose another",
    ),
    "user ID with a space": ({"userId": "trader 1"}, "spec.userId"),
    "empty user ID": ({"userId": ""}, "spec.userId"),
    "misspelled field": ({"idleTimeoutt": "5m"}, 'unknown field "spec.idleTimeoutt"'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_api_server_refuses(case: str, kubectl: Kubectl) -> None:
    changes, message = REFUSED[case]
    bad = manifest("refused", "refused", operatingMode="Suspended")
    bad["spec"] |= changes
    assert message in kubectl.refusal(bad)


def test_the_api_server_refuses_a_name_that_is_too_long(kubectl: Kubectl) -> None:
    refusal = kubectl.refusal(manifest("a" * 51, "refused", operatingMode="Suspended"))
    assert "metadata.name must be at most 50 characters" in refusal


@pytest.mark.parametrize("field", ["userId", "tier", "auth"])
def test_the_api_server_refuses_a_manifest_without(field: str, kubectl: Kubectl) -> None:
    bad = manifest("refused", "refused")
    del bad["spec"][field]
    assert f"spec.{field}: Required value" in kubectl.refusal(bad)


def test_the_api_server_refuses_another_user_for_a_workspace(user: User, kubectl: Kubectl) -> None:
    workspace = user.make_workspace(operatingMode="Suspended")
    refusal = kubectl.refusal(manifest(workspace.name, f"{user.id}-other", operatingMode="Suspended"))
    assert "userId can't be changed" in refusal
    assert "create another UserWorkspace for another user" in refusal
    assert workspace.resource["spec"]["userId"] == user.id


def tier(changes: Object) -> Object:
    """A tier's manifest, changed."""
    spec: Object = {
        "idleTimeout": {"default": "15m", "most": "1h"},
        "authModes": ["Gateway"],
        "storage": {"size": "1Gi"},
        **changes,
    }
    return {
        "apiVersion": "dexorder.io/v1alpha1",
        "kind": "WorkspaceTier",
        "metadata": {"name": "refused"},
        "spec": spec,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"idleTimeout": {"default": "2h", "most": "1h"}}, "idleTimeout.default must not be longer than"),
        ({"idleTimeout": {"default": "1s", "most": "1h"}}, "idleTimeout.default must be from 5s to 720h"),
        ({"authModes": []}, "spec.authModes"),
        ({"maxLifetime": "10s"}, "maxLifetime must be at least 1m"),
        ({"warmPool": {"size": -1}}, "spec.warmPool.size"),
    ],
)
def test_the_api_server_refuses_a_tier(changes: Object, message: str, kubectl: Kubectl) -> None:
    assert message in kubectl.refusal(tier(changes))


NAMED: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "unknown tier": ({"tier": "platinum"}, "TierNotFound", ["platinum", "kubectl get workspacetiers"]),
    "idle timeout over the tier's most": (
        {"idleTimeout": "9h"},
        "IdleTimeoutTooLong",
        ["9h", "standard", "at most 8h"],
    ),
    "auth mode that the tier does not allow": (
        {"auth": {"mode": "Direct", "direct": {"oidc": KEYS}}},
        "AuthModeNotAllowed",
        ["standard", "Direct", "choose Gateway"],
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_condition_names(case: str, user: User) -> None:
    changes, reason, told = NAMED[case]
    workspace = user.make_workspace(**changes)
    accepted = workspace.wait_reason("Accepted", reason)
    assert accepted.status == "False"
    for part in told:
        assert part in accepted.message
    ready = workspace.wait_reason("Ready", "NotAccepted")
    assert ready.status == "False"
    assert ready.message == accepted.message
    assert workspace.pod is None


def test_a_manifest_that_is_put_right_is_accepted_and_starts(user: User) -> None:
    workspace = user.make_workspace(tier="platinum")
    workspace.wait_reason("Accepted", "TierNotFound")
    workspace.change(tier="standard")
    workspace.wait("Ready")
    accepted = workspace.condition("Accepted")
    assert accepted is not None
    assert accepted.status == "True"


def test_a_user_whose_workspace_is_not_accepted_is_told_why(user: User) -> None:
    workspace = user.make_workspace(tier="platinum")
    workspace.wait_reason("Accepted", "TierNotFound")
    response = user.mcp.send("tools/list")
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["data"]["reason"] == "WorkspaceRefused"
    assert "platinum" in error["message"]
