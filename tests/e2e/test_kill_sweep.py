"""The operator may end between any two of its writes: the lives of two workspaces come to the same end every time.

The script has stages, and in the n-th life the operator ends after the n-th write of each stage. Every stage begins
with an operator that was started anew on the same state: so each write of the whole script is met, stage by stage.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support.api import api
from support.own_operator import OwnOperator, namespace_of_its_own, unpack
from support.waiting import eventually
from support.workspace import condition, manifest, tier_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

    from support.kubectl import Kubectl, Object

WITHIN = 90.0
"""An operator that was killed and a machine that does much else: nothing is measured here."""
MOST_WRITES = 12
"""A stage that needs more writes than this has gone astray."""
AT_ONCE = 4
"""Lives beside each other: most of each is waiting."""
QUIET_LOOKS = 4
"""So many looks without a change, and nothing more is to come."""
FLAGS = ("--sidecar-image=", "--image-pull-policy=")
"""What an operator of one's own has in common with the installed one."""
STAGES = ("fill", "start", "suspend", "resume", "take_over", "leave")
PODS = 4
"""A member of the pool, a cold start, a resume, and another member in place of the one that was taken over."""
CLAIMS = 3
"""Of both workspaces, and of the member that is left."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a life came to."""

    deaths: tuple[str, ...]
    """The stages in which the operator ended."""
    states: dict[str, str]
    """What each stage came to."""
    pods: int
    claims: int


class Script:
    """What happens in a life, a stage at a time, and the state that each stage comes to."""

    def __init__(self, client: httpx2.Client, operator: OwnOperator, tier: str) -> None:
        self.client, self.tier, self.operator = client, tier, operator.name
        self.core = f"/api/v1/namespaces/{operator.name}"
        self.workspaces = f"/apis/dexorder.io/v1alpha1/namespaces/{operator.name}/userworkspaces"

    def fill(self) -> str:
        """The warm pool has its member."""
        eventually("the member of the pool", self.has_member, within=WITHIN)
        self.settle()
        return "one free member"

    def start(self) -> str:
        """A workspace that asks for something of its own starts cold."""
        self.make("trader", template={"env": [{"name": "DESK", "value": "rates"}]})
        return self.reached("trader", "Ready", "Ready")

    def suspend(self) -> str:
        self.change("trader", {"spec": {"operatingMode": "Suspended"}})
        return self.reached("trader", "Suspended", "Requested")

    def resume(self) -> str:
        touch = {"annotations": {"dexorder.io/touched-at": "now"}}
        self.change("trader", {"metadata": touch, "spec": {"operatingMode": "Auto"}})
        return self.reached("trader", "Ready", "Ready")

    def take_over(self) -> str:
        """Another workspace takes the member over, and the pool gets another one."""
        self.make("guest")
        eventually("guest is ready", lambda: self.shows("guest", "Ready", "Ready"), within=WITHIN)
        eventually("another member", self.has_member, within=WITHIN)
        return self.reached("guest", "Ready", "Ready")

    def leave(self) -> str:
        """Both are deleted. Their volumes are kept."""
        for name in ("trader", "guest"):
            self.client.delete(f"{self.workspaces}/{name}").raise_for_status()
        mine = {"labelSelector": "dexorder.io/workspace"}
        eventually("their pods end", lambda: not self.list(f"{self.core}/pods", mine), within=WITHIN)
        claims = self.list(f"{self.core}/persistentvolumeclaims", mine)
        return json.dumps(sorted(without_number(claim["metadata"]["name"]) for claim in claims))

    def make(self, name: str, **spec: Any) -> None:
        made = manifest(name, name, tier=self.tier, **spec)
        made["metadata"]["labels"] = {"dexorder.io/operator": self.operator}
        self.client.post(self.workspaces, json=made).raise_for_status()

    def change(self, name: str, patch: Object) -> None:
        merge = {"Content-Type": "application/merge-patch+json"}
        self.client.patch(
            f"{self.workspaces}/{name}", content=json.dumps(patch).encode(), headers=merge
        ).raise_for_status()

    def resource(self, name: str) -> Object:
        found: Object = self.client.get(f"{self.workspaces}/{name}").raise_for_status().json()
        return found

    def list(self, path: str, query: dict[str, str] | None = None) -> list[Object]:
        items: list[Object] = self.client.get(path, params=query).raise_for_status().json()["items"]
        return items

    def has_member(self) -> bool:
        """Whether the pool has one member that is ready, and nothing else."""
        free = {"labelSelector": "dexorder.io/pool,!dexorder.io/workspace"}
        pods = self.list(f"{self.core}/pods", free)
        claims = self.list(f"{self.core}/persistentvolumeclaims", free)
        ready = [pod for pod in pods if {"Ready": "True"}.items() <= conditions_of(pod).items()]
        return len(ready) == len(pods) == len(claims) == 1

    def shows(self, name: str, kind: str, reason: str) -> bool:
        found = condition(self.resource(name), kind)
        return found is not None and found.reason == reason

    def reached(self, name: str, kind: str, reason: str) -> str:
        """Wait until the state is reached and nothing more is written, and describe it without what differs."""
        try:
            eventually(f"{name} is {reason}", lambda: self.shows(name, kind, reason), within=WITHIN)
        except AssertionError as error:
            message = f"{error}: {self.resource(name).get('status')}"
            raise AssertionError(message) from None
        self.settle()
        return described(self.resource(name))

    def settle(self) -> None:
        """Wait until nothing changes any more."""
        seen: list[list[str]] = []

        def settled() -> bool:
            paths = (self.workspaces, f"{self.core}/pods", f"{self.core}/persistentvolumeclaims")
            seen.append([item["metadata"]["resourceVersion"] for path in paths for item in self.list(path)])
            return len(seen) >= QUIET_LOOKS and all(one == seen[-1] for one in seen[-QUIET_LOOKS:])

        eventually("nothing changes any more", settled, within=WITHIN)

    def claims(self) -> int:
        return len(self.list(f"{self.core}/persistentvolumeclaims"))


def conditions_of(pod: Object) -> dict[str, str]:
    return {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}


def without_number(name: str) -> str:
    """A member that was left half made has its number used for as long as it takes to clear it away."""
    return re.sub(r"^(pool-.*)-\d+$", r"\1-N", name)


def described(resource: Object) -> str:
    status = resource["status"]
    told: dict[str, Any] = {
        kind: (found.status, found.reason)
        for kind in ("Accepted", "UpToDate", "StorageReady", "Ready", "Suspended")
        if (found := condition(resource, kind)) is not None
    }
    # An operator that is killed in the middle of a stop does not know what the sidecar answered, and says so.
    saved = condition(resource, "Saved")
    assert saved is None or saved.status in {"True", "Unknown"}
    told["start"] = status.get("start", {}).get("kind")
    told |= {key: key in status for key in ("endpoint", "podUID", "claimName", "idleDeadlineTime", "readyTime")}
    told |= {key: status.get(key) for key in ("restarts", "suspendReason", "observedTouch")}
    told |= {key: without_number(status.get(key, "")) for key in ("podName", "claimName")}
    return json.dumps(told, sort_keys=True)


class Uids:
    """Counts the pods that there ever were, as a watch shows them."""

    def __init__(self, kubectl: Kubectl, path: Path) -> None:
        self.kubectl, self.path = kubectl, path
        self.watch: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        command = ["kubectl", "--namespace", self.kubectl.namespace, "get", "pods", "--watch", "--output"]
        with self.path.open("wb") as output:
            self.watch = subprocess.Popen([*command, 'jsonpath={.metadata.uid}{"\\n"}'], stdout=output)

    def __exit__(self, *_: object) -> None:
        assert self.watch is not None
        assert self.watch.poll() is None, "the watch of the pods ended"
        self.watch.terminate()
        self.watch.wait(timeout=10)

    def count(self) -> int:
        return len(set(self.path.read_text().split()))


@dataclass(frozen=True, slots=True)
class Sweep:
    """What all lives have in common."""

    program: Path
    flags: tuple[str, ...]
    client: httpx2.Client
    tier: str
    folder: Path

    def live(self, writes: int) -> Life:
        """Play the script with an operator that ends after so many writes of each stage."""
        log = self.folder / f"operator-{writes}.log"
        with (
            namespace_of_its_own("kill-sweep") as kubectl,
            OwnOperator(self.program, kubectl, self.flags, log) as operator,
        ):
            script, states, deaths = Script(self.client, operator, self.tier), dict[str, str](), list[str]()
            uids = Uids(kubectl, self.folder / f"pods-{writes}")
            with uids:
                for stage in STAGES:
                    before = operator.deaths
                    operator.start(f"--end-after-writes={writes}")
                    states[stage] = getattr(script, stage)()
                    deaths += [stage] if operator.deaths > before else []
                claims = script.claims()
            return Life(tuple(deaths), states, uids.count(), claims)


@pytest.fixture
def sweep(system: Kubectl, kubectl: Kubectl, tmp_path: Path) -> Iterator[Sweep]:
    """The program of the installed operator with its flags, and a tier with a pool of one."""
    operator, standard = system.get("deployment", "dexorder-operator"), kubectl.get("workspacetier", "standard")
    assert operator is not None
    assert standard is not None
    args: list[str] = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    flags = tuple(arg for arg in args if arg.startswith(FLAGS))
    tier = f"sweep-{secrets.token_hex(3)}"
    small = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    kubectl.apply(tier_manifest(tier, image=standard["spec"]["image"], resources=small, warmPool={"size": 1}))
    try:
        with api(kubectl) as client:
            yield Sweep(unpack(tmp_path), flags, client, tier, tmp_path)
    finally:
        kubectl.run("delete", "workspacetier", tier, "--ignore-not-found")


def test_an_operator_that_ends_after_any_write_leaves_nothing_behind_and_doubles_nothing(sweep: Sweep) -> None:
    lives = dict[int, Life]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while all(life.deaths for life in lives.values()):
            first = len(lives) + 1
            assert first <= MOST_WRITES, f"a stage of more than {MOST_WRITES} writes"
            at_once = range(first, first + AT_ONCE)
            lives |= zip(at_once, pool.map(sweep.live, at_once), strict=True)
    deaths = {writes: life.deaths for writes, life in lives.items()}
    print(f"the stages in which it ended, by the writes after which it did: {deaths}")
    undisturbed = next(life for life in lives.values() if not life.deaths)
    assert (undisturbed.pods, undisturbed.claims) == (PODS, CLAIMS)
    for writes, life in lives.items():
        for stage, state in life.states.items():
            assert state == undisturbed.states[stage], f"killed after {writes} writes of {stage}"
        assert (life.pods, life.claims) == (PODS, CLAIMS), f"killed after {writes} writes of each stage"
    assert sum(len(stages) for stages in deaths.values()) >= 20, "the script has more writes than that"
