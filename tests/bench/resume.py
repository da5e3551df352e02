"""Times from nothing running to the first MCP answer: a suspended workspace, a bare pod, and the agent alone.

In each round, one after the other:
- workspace: a request to the gateway for a suspended workspace, until its answer.
- bare pod: a pod of the same images, spec and kind of volume, from its creation at the API server until its sidecar
  answers the same request, asked as soon as the pod has an address. No operator and no gateway take part.
Afterwards, in the bare pod, the agent alone: its process from start to its first answer on its socket.
"""

from __future__ import annotations

import argparse
import copy
import json
import secrets
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from support.api import api, watch
from support.identity import GATEWAY, OPERATOR, Signer
from support.kubectl import WORKSPACE_NAMESPACE, Kubectl
from support.mcp_http import Mcp
from support.users import User
from support.waiting import eventually

if TYPE_CHECKING:
    from support.kubectl import Object
    from support.workspace import Workspace

HERE = Path(__file__).resolve().parent
RESULT = HERE.parents[1] / ".local" / "bench" / "resume.json"
BARE = "bench-bare"
PODS = f"/api/v1/namespaces/{WORKSPACE_NAMESPACE}/pods"
GOAL = 1.15
"""The most that the resume of a workspace may take, in times of the bare pod."""
MOST_SETS = 3
"""In how many sets of rounds a gate may look: in doubt it measures on and judges by all of them."""


@dataclass
class Times:
    """Seconds of each round."""

    workspace: list[float] = field(default_factory=list)
    bare_pod: list[float] = field(default_factory=list)
    agent_alone: list[float] = field(default_factory=list)
    agent_memory: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Bare:
    """A pod that nobody looks after, on a claim of its own."""

    kubectl: Kubectl
    client: httpx2.Client
    manifest: Object
    signer: Signer
    audience: str
    user: str

    @classmethod
    def like(cls, workspace: Workspace, client: httpx2.Client) -> Bare:
        """The same pod as the workspace's, which trusts a key that is made here."""
        pod, claim = workspace.pod, workspace.claim
        assert pod is not None
        assert claim is not None
        signer = Signer.made_up(GATEWAY)
        keys = {"gateway": [signer.jwk], "operator": [Signer.made_up(OPERATOR).jwk]}
        spec = copy.deepcopy(pod["spec"])
        del spec["nodeName"]
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                volume["persistentVolumeClaim"]["claimName"] = BARE
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": BARE, "annotations": {"dexorder.io/identity-keys": json.dumps(keys)}},
            "spec": spec,
        }
        wanted = {key: claim["spec"][key] for key in ("accessModes", "resources", "storageClassName", "volumeMode")}
        workspace.kubectl.apply(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": BARE}, "spec": wanted}
        )
        return cls(workspace.kubectl, client, manifest, signer, workspace.uid, workspace.user)

    def time_start(self) -> float:
        """Create the pod and ask it until it answers; it stays."""
        identity = self.signer.header(self.audience, self.user)
        began = time.perf_counter()
        created = self.client.post(PODS, json=self.manifest)
        created.raise_for_status()
        address = self.address(created.json()["metadata"]["resourceVersion"])
        ask_until_answered(f"http://{address}:8080/mcp", identity)
        return time.perf_counter() - began

    def address(self, version: str) -> str:
        """The pod's address as soon as the API server knows it."""
        for pod in watch(self.client, PODS, fieldSelector=f"metadata.name={BARE}", resourceVersion=version):
            if address := pod.get("status", {}).get("podIP"):
                return str(address)
        message = "the bare pod got no address"
        raise AssertionError(message)

    def stop(self) -> None:
        """Delete the pod and wait until it is gone."""
        self.kubectl.run("delete", "pod", BARE, "--ignore-not-found", timeout=120)

    def remove(self) -> None:
        """Delete the pod and its claim."""
        self.stop()
        self.kubectl.run("delete", "pvc", BARE, "--ignore-not-found", "--wait=false")


def ask_until_answered(url: str, credentials: dict[str, str], *, within: float = 60) -> None:
    """Ask for the tools again and again, a few milliseconds apart, until they come."""
    deadline = time.monotonic() + within
    with httpx2.Client(trust_env=False, timeout=within) as http:
        mcp = Mcp(http, url, credentials)
        while True:
            try:
                assert mcp.tools()
            except httpx2.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                return


def suspend(workspace: Workspace) -> None:
    """Stop it so that the next request starts it."""
    workspace.change(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended", within=60)
    eventually("the pod is gone", lambda: workspace.pod is None, within=60)
    workspace.change(operatingMode="Auto")
    workspace.wait_reason("Suspended", "Requested", within=10)


def time_resume(user: User) -> float:
    """One request for a suspended workspace, over a new connection."""
    with httpx2.Client(trust_env=False, timeout=90) as http:
        mcp = Mcp(http, user.endpoint, user.mcp.credentials)
        began = time.perf_counter()
        assert mcp.tools()
        return time.perf_counter() - began


def time_agent_alone(bare: Bare, rounds: int) -> tuple[list[float], list[float]]:
    """Run the agent a second time in the bare pod, with a copy of the repository; seconds, and MiB at rest."""
    script = (HERE / "agent_alone.py").read_text()
    command = ["exec", "--stdin", BARE, "--container", "agent", "--", "python3", "-", str(rounds)]
    printed = bare.kubectl.run(*command, stdin=script, timeout=300)
    told: dict[str, list[float]] = json.loads(printed.splitlines()[-1])
    return told["seconds"], told["memory_mib"]


def ratio_of(times: Times) -> float:
    """The workspace's median in times of the bare pod's."""
    return statistics.median(times.workspace) / statistics.median(times.bare_pod)


def measure(user: User, rounds: int, client: httpx2.Client, *, sets: int, agent: bool) -> Times:
    """All rounds. The first start of each seeds its volume and is not counted."""
    times = Times()
    workspace = user.make_workspace(idleTimeout="1h")
    assert user.mcp.tools()
    workspace.wait("Ready")
    bare = Bare.like(workspace, client)
    try:
        bare.stop()
        bare.time_start()
        for number in range(rounds * sets):
            if number and number % rounds == 0 and ratio_of(times) <= GOAL:
                break
            bare.stop()
            suspend(workspace)
            # Neither is always the first of a round.
            if number % 2:
                times.workspace.append(time_resume(user))
                times.bare_pod.append(bare.time_start())
            else:
                times.bare_pod.append(bare.time_start())
                times.workspace.append(time_resume(user))
            print(f"round {number + 1}: {times.workspace[-1]:.3f} s, bare pod {times.bare_pod[-1]:.3f} s", flush=True)
            workspace.wait("Ready")
        if agent:
            times.agent_alone, times.agent_memory = time_agent_alone(bare, rounds)
    finally:
        bare.remove()
    return times


def summary(values: list[float]) -> dict[str, Any]:
    """The figures of one row."""
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
        "rounds": [round(value, 4) for value in values],
    }


def report(times: Times) -> float:
    """Print, write, and return the ratio."""
    rows = {name: summary(values) for name, values in vars(times).items() if values and name != "agent_memory"}
    ratios = [ours / bare for ours, bare in zip(times.workspace, times.bare_pod, strict=True)]
    ratio = ratio_of(times)
    result = {"seconds": rows, "ratio": round(ratio, 3), "ratio_of_pairs": summary(ratios), "goal": GOAL}
    if times.agent_memory:
        result["agent_memory_mib"] = summary(times.agent_memory)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")

    print(f"\n{'seconds':<14}{'median':>8}{'least':>8}{'most':>8}")
    for name, row in rows.items():
        print(f"{name.replace('_', ' '):<14}{row['median']:>8.3f}{row['least']:>8.3f}{row['most']:>8.3f}")
    if times.agent_memory:
        print(f"memory of the agent at rest: {statistics.median(times.agent_memory):.1f} MiB")
    print(f"ratio of the medians: {ratio:.2f} (goal: at most {GOAL}); written to {RESULT}")
    return ratio


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--gate", action="store_true", help="measure the ratio alone, and fail if it misses the goal")
    arguments = parser.parse_args()
    kubectl = Kubectl(WORKSPACE_NAMESPACE)
    with httpx2.Client(trust_env=False, timeout=90) as http, api(kubectl) as client:
        user = User.of_environment(f"bench-resume-{secrets.token_hex(4)}", kubectl, http)
        sets = MOST_SETS if arguments.gate else 1
        try:
            times = measure(user, arguments.rounds, client, sets=sets, agent=not arguments.gate)
        finally:
            user.remove()
    if report(times) > GOAL and arguments.gate:
        sys.exit(f"a resume takes more than {GOAL} times as long as a bare pod")


if __name__ == "__main__":
    main()
