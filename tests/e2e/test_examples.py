"""Every example works: the API server takes it as it is, the chart takes its values, the health check judges right."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lupa
import pytest
import yaml

if TYPE_CHECKING:
    from support.kubectl import Kubectl, Object

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CHART = ROOT / "charts" / "dexorder-workspaces"
KUSTOMIZED = EXAMPLES / "kustomize"
ARGOCD = EXAMPLES / "argocd"
MANIFESTS = [
    path for path in sorted(EXAMPLES.rglob("*.yaml")) if path.is_file() and path.parent not in (KUSTOMIZED, ARGOCD)
]
DRY_RUN = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--field-manager=examples-test")


def documents(path: Path) -> list[Object]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_the_api_server_takes(path: Path, kubectl: Kubectl) -> None:
    printed = kubectl.run(*DRY_RUN, "--filename", str(path))
    assert printed.count("serverside-applied") == len(documents(path))


def test_the_api_server_takes_the_kustomized_workspaces(kubectl: Kubectl) -> None:
    kustomized = kubectl.run("kustomize", str(KUSTOMIZED))
    found = {item["metadata"]["name"]: item for item in yaml.safe_load_all(kustomized)}
    assert found["trader5"]["spec"]["idleTimeout"] == "2h"
    assert all("example.com/desk" in item["metadata"]["labels"] for item in found.values())
    printed = kubectl.run(*DRY_RUN, "--filename", "-", stdin=kustomized)
    assert printed.count("serverside-applied") == len(found)


def test_the_chart_takes_the_values_of_the_argocd_application() -> None:
    applications = documents(ARGOCD / "application.yaml")
    assert {application["kind"] for application in applications} == {"Application"}
    values: Any = next(
        source["helm"]["valuesObject"]
        for application in applications
        for source in application["spec"].get("sources", [])
        if "helm" in source
    )
    command = ["helm", "template", "dexorder", str(CHART), "--namespace", "dexorder-system", "--values", "-"]
    done = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def health(status: Object | None, generation: int = 1) -> tuple[str, str]:
    """What ArgoCD says of a workspace with that status."""
    settings = documents(ARGOCD / "health.yaml")[0]["data"]
    script = settings["resource.customizations.health.dexorder.io_UserWorkspace"]
    lua = lupa.LuaRuntime()
    resource = lua.table_from({"metadata": {"generation": generation}, "status": status}, recursive=True)
    verdict = lua.eval(f"function(obj) {script} end")(resource)
    return verdict["status"], verdict["message"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Ready", "Healthy"),
        ("Suspended", "Suspended"),
        ("Pending", "Progressing"),
        ("Starting", "Progressing"),
        ("Queued", "Progressing"),
        ("Draining", "Progressing"),
        ("Terminating", "Progressing"),
        ("ImagePullFailed", "Degraded"),
        ("NotAccepted", "Degraded"),
        ("NodeLost", "Degraded"),
    ],
)
def test_argocd_judges_a_workspace_by_its_ready_condition(reason: str, expected: str) -> None:
    conditions = [{"type": "Accepted", "reason": "Accepted"}, {"type": "Ready", "reason": reason, "message": "told"}]
    assert health({"observedGeneration": 1, "conditions": conditions}) == (expected, f"{reason}: told")


def test_argocd_waits_for_the_operator_to_look_at_a_new_version() -> None:
    assert health(None)[0] == "Progressing"
    ready = [{"type": "Ready", "reason": "Ready", "message": ""}]
    assert health({"observedGeneration": 1, "conditions": ready}, generation=2)[0] == "Progressing"
