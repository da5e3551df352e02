"""What a workspace's pod is to its node: two users without rights, and nothing of the cluster's."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from support.kubectl import SYSTEM_NAMESPACE, Kubectl

if TYPE_CHECKING:
    from support.kubectl import Object
    from support.users import User
    from support.workspace import Workspace

STANDARD = "pod-security.kubernetes.io/enforce"
SECCOMP_FILTER = "2"


@pytest.fixture(scope="module")
def workspace(settled_user: User) -> Workspace:
    return settled_user.workspace


@pytest.fixture(scope="module")
def pod(workspace: Workspace) -> Object:
    found = workspace.pod
    assert found is not None
    return found


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def test_what_runs_there_has_no_rights(workspace: Workspace) -> None:
    """As the kernel tells it of a process in the agent's container."""
    status = dict(re.findall(r"^(\w+):[ \t]*(.*)$", workspace.in_agent("cat", "/proc/self/status"), re.MULTILINE))
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert "0" not in status["Uid"].split()
    assert "0" not in [*status["Gid"].split(), *status["Groups"].split()]
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", SECCOMP_FILTER)


def test_the_root_file_system_is_read_only_and_holds_no_token(workspace: Workspace) -> None:
    program = """
import os
def writes(folder):
    try:
        open(os.path.join(folder, "written"), "w").close()
    except OSError as error:
        return error.errno
    os.unlink(os.path.join(folder, "written"))
    return 0
print([writes(folder) for folder in ("/", "/etc", "/usr/bin")])
print(os.path.exists("/var/run/secrets"), sorted(name for name in os.environ if "TOKEN" in name or "SECRET" in name))
"""
    written, secrets = workspace.in_agent("python3", "-c", program).splitlines()
    assert 0 not in json.loads(written)
    assert secrets == "False []"


def test_agent_and_sidecar_are_different_users(pod: Object) -> None:
    users = {container["name"]: container["securityContext"].get("runAsUser") for container in containers(pod)}
    assert users["agent"] != users["sidecar"]
    assert not set(users.values()) & {0, None}
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(pod["spec"].get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


def test_the_namespace_takes_no_other_pods(workspace: Workspace, pod: Object) -> None:
    """Whoever may make pods there makes none that has more."""
    kubectl = workspace.kubectl
    namespace = kubectl.get("namespace", kubectl.namespace)
    assert namespace is not None
    assert namespace["metadata"]["labels"][STANDARD] == "restricted"
    image = next(container["image"] for container in containers(pod) if container["name"] == "agent")
    strict: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for more in (
        {"privileged": True, "allowPrivilegeEscalation": True},
        {"runAsNonRoot": False},
        {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}},
        {"seccompProfile": {"type": "Unconfined"}},
    ):
        container = {"name": "more", "image": image, "securityContext": strict | more}
        made = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "e2e-more-rights"},
            "spec": {"containers": [container]},
        }
        assert 'violates PodSecurity "restricted' in kubectl.refusal(made), more


@pytest.mark.parametrize("program", ["operator", "gateway"])
def test_operator_and_gateway_have_no_rights_on_their_node_either(program: str) -> None:
    system = Kubectl(SYSTEM_NAMESPACE)
    deployment = system.get("deployment", f"dexorder-{program}")
    assert deployment is not None
    spec = deployment["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
