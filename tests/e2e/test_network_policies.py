"""The chart's NetworkPolicies, enforced: who reaches a workspace, and what a workspace of each egress class reaches."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx2
import pytest

from support.cluster import cluster_command
from support.kubectl import Kubectl
from support.oidc_provider import address_towards
from support.users import User
from support.workspace import tier_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.kubectl import Object
    from support.workspace import Workspace

CLASSES = ("None", "Web", "Any")
PUBLIC = "198.51.100.7"
"""An address of documentation (RFC 5737) that this machine takes on: public to the policies, and nobody's."""
METADATA = "169.254.169.254"
"""Where clouds tell a node's secrets to whoever asks."""
WEB_PORT, OTHER_PORT = 80, 8000
STRANGER = "stranger"
TARGET = "target"
START_SECONDS = 60
BUILD_SECONDS = 1200.0
"""How long the first build of the enforcer may take."""
TRY = """
import json, socket, sys
for host, port in json.loads(sys.argv[1]):
    try:
        socket.create_connection((host, port), 2).close()
        print("reached")
    except OSError:
        print("lost")
"""
LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listens", flush=True)
while True:
    server.accept()[0].close()
"""

Place = tuple[str, int]


@pytest.fixture(scope="module")
def workspaces(kubectl: Kubectl, new_module_user: Callable[[], User]) -> Iterator[dict[str, Workspace]]:
    """A workspace of each class, by the class, and one to be reached, running before anything is enforced."""
    tiers = {name: f"egress-{name.lower()}-{secrets.token_hex(3)}" for name in CLASSES}
    standard = kubectl.get("workspacetier", "standard")
    assert standard is not None
    for egress, tier in tiers.items():
        kubectl.apply(tier_manifest(tier, egress=egress, image=standard["spec"]["image"]))
    made = {egress: new_module_user().make_workspace(tier=tier) for egress, tier in tiers.items()}
    made[TARGET] = new_module_user().make_workspace(tier=tiers["None"])
    for workspace in made.values():
        workspace.wait("Ready", within=START_SECONDS)
    yield made
    kubectl.run("delete", "workspacetier", *tiers.values(), "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="module")
def stranger(kubectl: Kubectl, workspaces: dict[str, Workspace]) -> Iterator[Kubectl]:
    """A pod of somebody else's namespace."""
    pod = workspaces["Any"].pod
    assert pod is not None
    (agent,) = (one for one in pod["spec"]["containers"] if one["name"] == "agent")
    namespace = f"strangers-{secrets.token_hex(3)}"
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    elsewhere = Kubectl(namespace)
    container = {"name": "agent", "image": agent["image"], "command": ["sleep", "infinity"]}
    spec: Object = {"containers": [container], "terminationGracePeriodSeconds": 0}
    try:
        elsewhere.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": STRANGER}, "spec": spec})
        elsewhere.wait("pod", STRANGER, "condition=Ready", within=START_SECONDS)
        yield elsewhere
    finally:
        kubectl.run("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def outside(gateway_url: str) -> Iterator[None]:
    """What stands for the world: this machine, and on it a public address and that of a metadata service."""
    addresses = [f"{address}/32" for address in (PUBLIC, METADATA)]
    machine = address_towards(gateway_url)
    listeners = []
    try:
        for address in addresses:
            subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
        for host, port in ((machine, WEB_PORT), (PUBLIC, WEB_PORT), (PUBLIC, OTHER_PORT), (METADATA, WEB_PORT)):
            command = [sys.executable, "-c", LISTEN, host, str(port)]
            listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            listeners.append(listener)
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listens\n"
        yield
    finally:
        for listener in listeners:
            listener.kill()
            listener.communicate()
        for address in addresses:
            subprocess.run(["ip", "address", "delete", address, "dev", "lo"], check=False)


def tried(inside: Kubectl, pod: str, places: list[Place]) -> list[str]:
    """What becomes of connections from a pod."""
    command = ("exec", pod, "--container", "agent", "--", "python3", "-c", TRY, json.dumps(places))
    return inside.run(*command).split()


@pytest.fixture(scope="module")
def unenforced(
    workspaces: dict[str, Workspace], stranger: Kubectl, outside: None, world: list[Place]
) -> dict[str, list[str]]:
    """What each pod reaches while the policies are taken and not enforced: everything that is there."""
    del outside
    found = {name: tried(workspaces[name].kubectl, workspaces[name].child, world) for name in CLASSES}
    return {**found, STRANGER: tried(stranger, STRANGER, world)}


@pytest.fixture(scope="module")
def world(workspaces: dict[str, Workspace], gateway_url: str) -> list[Place]:
    """The places that are tried, in the order of `PLACES`."""
    address = workspaces[TARGET].status["endpoint"].split("/")[2].split(":")[0]
    api = workspaces[TARGET].kubectl.read("get", "service", "kubernetes", "--namespace=default")["spec"]["clusterIP"]
    machine = address_towards(gateway_url)
    return [
        (address, 8080), (address, 8081), (api, 443), (machine, WEB_PORT),
        (PUBLIC, WEB_PORT), (PUBLIC, OTHER_PORT), (METADATA, WEB_PORT),
    ]  # fmt: skip


PLACES = ("MCP of a workspace", "control of a workspace", "API server", "this machine", "web", "other port", "metadata")


@pytest.fixture(scope="module")
def enforced(unenforced: dict[str, list[str]]) -> Iterator[dict[str, list[str]]]:
    """From here on the policies hold; what was reached before."""
    try:
        cluster_command("policies", "on", within=BUILD_SECONDS)
        yield unenforced
    finally:
        cluster_command("policies", "off")


def reached(outcomes: list[str]) -> set[str]:
    """The places that were reached."""
    return {place for place, outcome in zip(PLACES, outcomes, strict=True) if outcome == "reached"}


EXPECTED = {
    "None": set(),
    "Web": {"web"},
    # The address of another workspace is let out, and not let in there.
    "Any": {"API server", "this machine", "web", "other port"},
    STRANGER: {"API server", "this machine", "web", "other port", "metadata"},
}


def test_each_egress_class_reaches_what_it_may(
    enforced: dict[str, list[str]], workspaces: dict[str, Workspace], stranger: Kubectl, world: list[Place]
) -> None:
    assert {name: reached(outcomes) for name, outcomes in enforced.items()} == {name: set(PLACES) for name in EXPECTED}

    def outcomes(name: str) -> list[str]:
        inside, pod = (stranger, STRANGER) if name == STRANGER else (workspaces[name].kubectl, workspaces[name].child)
        return tried(inside, pod, world)

    with ThreadPoolExecutor() as pool:
        found = dict(zip(EXPECTED, pool.map(outcomes, EXPECTED), strict=True))
    assert {name: reached(told) for name, told in found.items()} == EXPECTED


@pytest.mark.usefixtures("enforced")
def test_names_are_resolved_in_each_class(workspaces: dict[str, Workspace]) -> None:
    ask = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"
    for workspace in workspaces.values():
        assert workspace.in_agent("python3", "-c", ask).strip().count(".") == 3


@pytest.mark.usefixtures("enforced")
def test_users_and_the_operator_get_through(
    workspaces: dict[str, Workspace], http: httpx2.Client, gateway_url: str, new_user: Callable[[], User]
) -> None:
    """The gateway reaches the MCP port, the operator the control port; a new pod is let in as soon as it is there."""
    settled = workspaces[TARGET]
    somebody = User(settled.user, settled.kubectl, http, gateway_url)
    assert "list_files" in somebody.mcp.tools()
    newcomer = new_user()
    assert "list_files" in newcomer.mcp.tools()
    newcomer.workspace.change(operatingMode="Suspended")
    newcomer.workspace.wait_reason("Ready", "Suspended", within=START_SECONDS)
    saved = newcomer.workspace.condition("Saved")
    assert saved is not None
    assert saved.reason == "Saved"


@pytest.mark.usefixtures("enforced")
def test_this_machine_reaches_the_gateway_and_no_workspace(workspaces: dict[str, Workspace], gateway_url: str) -> None:
    assert httpx2.get(f"{gateway_url}/healthz", trust_env=False, timeout=5).status_code == 200
    for workspace in workspaces.values():
        control = workspace.status["endpoint"].replace(":8080/mcp", ":8081/livez")
        with pytest.raises(httpx2.TransportError):
            httpx2.get(control, trust_env=False, timeout=2)
