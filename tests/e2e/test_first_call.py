"""The whole way, once: a manifest or a login becomes a running workspace, and a tool call comes back right."""

from __future__ import annotations

import csv
import io
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import talib

from support.workspace import START_SECONDS, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.kubectl import Kubectl
    from support.users import User

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
RESOURCES = [
    "context://user-profile",
    "context://conversation-summary",
    "context://workspace-state",
    "context://system-prompt",
    "indicators://list",
    "strategies://list",
]


def test_the_example_manifest_is_ready_within_30_seconds(new_user: Callable[[], User], kubectl: Kubectl) -> None:
    """The example as it is, under another name and for a new user, so that its volume is new too."""
    user = new_user()
    example = kubectl.read("apply", "--dry-run=client", "--filename", str(EXAMPLES / "standard.yaml"))
    example["metadata"] = {"name": user.id}
    example["spec"]["userId"] = user.id

    began = time.monotonic()
    kubectl.apply(example)
    kubectl.wait("uws", user.id, "condition=Ready", within=START_SECONDS)
    assert time.monotonic() - began < START_SECONDS

    workspace = Workspace(kubectl, user.id, user.id)
    for kind, reason in [("Accepted", "Accepted"), ("StorageReady", "Bound"), ("Ready", "Ready")]:
        found = workspace.condition(kind)
        assert found is not None, f"no condition {kind}"
        assert (found.status, found.reason) == ("True", reason)
    suspended = workspace.condition("Suspended")
    assert suspended is not None
    assert suspended.status == "False"
    pod = workspace.pod
    assert pod is not None
    assert workspace.status["podUID"] == pod["metadata"]["uid"]
    assert workspace.status["endpoint"] == f"http://{pod['status']['podIP']}:8080/mcp"
    assert "run_indicator" in user.mcp.tools()


def test_every_example_is_accepted_by_the_api_server(kubectl: Kubectl) -> None:
    manifests = sorted(EXAMPLES.glob("*.yaml"))
    assert manifests
    for path in manifests:
        kubectl.run("apply", "--dry-run=server", "--filename", str(path))


def test_a_user_never_seen_before_computes_an_rsi_that_equals_ta_lib(user: User) -> None:
    """The user has a token and the gateway's address; nothing of theirs exists before the call."""
    assert user.workspaces() == []
    mcp = user.mcp
    run = mcp.call("run_indicator", name="rsi", parameters={"period": 14})

    prices = list(csv.DictReader(io.StringIO(mcp.call("read_file", path="data/ibm-daily.csv")["content"])))
    assert len(prices) > 1000
    assert run["bars"] == len(prices)
    assert run["times"] == [row["date"] for row in prices]
    ours = np.array([np.nan if value is None else value for value in run["outputs"]["rsi"]])
    reference = talib.RSI(np.array([float(row["close"]) for row in prices]), timeperiod=14)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-9)
    assert np.count_nonzero(~np.isnan(ours)) == len(prices) - 14


def test_make_token_prints_a_token_that_the_gateway_accepts(user: User) -> None:
    printed = subprocess.run(
        ["make", "--silent", "token", f"USER={user.id}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    token = printed.removesuffix("\n")
    assert token.count(".") == 2
    assert not any(character.isspace() for character in token)
    assert "run_indicator" in user.with_token(token).tools()
    assert user.workspace.resource["spec"]["userId"] == user.id


def test_the_workspace_of_a_login_belongs_to_its_user(user: User) -> None:
    user.mcp.tools()
    workspace = user.workspace
    spec = workspace.resource["spec"]
    assert spec["userId"] == user.id
    assert spec["tier"] == "standard"
    assert spec["auth"]["mode"] == "Gateway"
    claim = workspace.claim
    assert claim is not None
    assert claim["metadata"]["annotations"]["dexorder.io/user-id"] == user.id


def test_a_new_workspace_has_its_six_resources_and_its_first_programs(user: User) -> None:
    mcp = user.mcp
    listed = {entry["uri"] for entry in mcp.request("resources/list")["resources"]}
    assert set(RESOURCES) <= listed
    for uri in RESOURCES:
        assert mcp.read(uri).strip(), uri
    names = {entry["name"] for entry in mcp.call("list_indicators")["indicators"]}
    assert {"sma", "ema", "rsi", "macd", "bollinger", "atr"} <= names
    assert {"sma_cross", "rsi_reversion"} <= {entry["name"] for entry in mcp.call("list_strategies")["strategies"]}


def test_what_a_user_sets_is_what_the_resources_then_say(user: User) -> None:
    mcp = user.mcp
    mcp.call("set_user_profile", text="Trades futures, no more than 2 % at risk.")
    mcp.call("set_workspace_state", state={"chart": {"symbol": "IBM"}, "indicators": ["rsi"]})
    assert mcp.read("context://user-profile").strip() == "Trades futures, no more than 2 % at risk."
    assert '"IBM"' in mcp.read("context://workspace-state")


def test_the_pod_holds_no_credentials_and_runs_restricted(user: User) -> None:
    user.mcp.tools()
    pod = user.workspace.pod
    assert pod is not None
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not [volume for volume in spec["volumes"] if "projected" in volume or "secret" in volume]
    sidecar, agent = spec["initContainers"][0], spec["containers"][0]
    assert (sidecar["name"], sidecar["restartPolicy"], agent["name"]) == ("sidecar", "Always", "agent")
    for container in (sidecar, agent):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert "ports" not in agent
