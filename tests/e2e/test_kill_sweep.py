"""The operator may end between any two of its writes: the life of a workspace comes to the same end every time.

It runs with KILL_SWEEP=1 alone: the installed operator tells the pods of the test's operator of its own keys, and a
drain then waits until the kubelet has shown the right ones again.
"""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support.own_operator import OwnOperator, namespace_of_its_own, unpack
from support.waiting import eventually
from support.workspace import Workspace, condition, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.kubectl import Kubectl, Object

WITHIN = 120.0
"""An operator that was killed and a machine that does much else: nothing is measured here."""
MOST_WRITES = 40
"""A life that needs more writes than this has gone astray."""
AT_ONCE = 3
"""Lives beside each other: most of each is waiting."""
FLAGS = ("--sidecar-image=", "--image-pull-policy=")
"""What an operator of one's own has in common with the installed one."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a life came to."""

    killed: bool
    states: tuple[str, ...]
    pods: int
    claims: int


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's program."""
    return unpack(tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def flags(system: Kubectl) -> tuple[str, ...]:
    """The installed operator's flags for sidecars."""
    operator = system.get("deployment", "dexorder-operator")
    assert operator is not None
    args: list[str] = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    return tuple(arg for arg in args if arg.startswith(FLAGS))


@pytest.mark.skipif("KILL_SWEEP" not in os.environ, reason="two operators tell pods of their keys: set KILL_SWEEP=1")
def test_an_operator_that_ends_after_any_write_leaves_nothing_behind_and_doubles_nothing(
    program: Path, flags: tuple[str, ...], tmp_path: Path
) -> None:
    undisturbed = live(program, flags, tmp_path, None)
    assert (undisturbed.pods, undisturbed.claims, undisturbed.killed) == (2, 1, False)
    swept = list(sweep(program, flags, tmp_path))
    assert len(swept) >= 10, f"only {len(swept)} writes in a whole life"
    for writes, life in enumerate(swept, start=1):
        assert life == Life(life.killed, undisturbed.states, 2, 1), f"killed after {writes} writes"


def sweep(program: Path, flags: tuple[str, ...], folder: Path) -> Iterator[Life]:
    """Lives in which the operator ends after 1, 2, 3 ... writes, until one is over before that."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(1, MOST_WRITES, AT_ONCE):
            at_once = range(first, first + AT_ONCE)
            for life in pool.map(lambda writes: live(program, flags, folder, writes), at_once):
                if not life.killed:
                    return
                yield life
    pytest.fail(f"a life of more than {MOST_WRITES} writes")


def live(program: Path, flags: tuple[str, ...], folder: Path, writes: int | None) -> Life:
    """Make a workspace, stop it, wake it, delete it, while an operator ends after so many writes."""
    first = () if writes is None else (f"--end-after-writes={writes}",)
    log = folder / f"operator-{writes}.log"
    with namespace_of_its_own("kill-sweep") as kubectl, OwnOperator(program, kubectl, flags, log, first) as operator:
        uids = Uids(kubectl, folder / f"pods-{writes}")
        workspace = Workspace(kubectl, "trader", "trader")
        made = manifest("trader", "trader")
        made["metadata"]["labels"] = {"dexorder.io/operator": operator.name}
        kubectl.apply(made)
        with uids:
            states = [reached(workspace, "Ready", "Ready")]
            workspace.change(operatingMode="Suspended")
            states.append(reached(workspace, "Suspended", "Requested"))
            workspace.change(operatingMode="Auto")
            kubectl.run("annotate", "uws", "trader", "dexorder.io/touched-at=now")
            states.append(reached(workspace, "Ready", "Ready"))
            kubectl.run("delete", "uws", "trader", "--wait=false")
            eventually("the pod ends", lambda: workspace.pod is None, within=WITHIN)
            assert kubectl.list("uws") == []
            claims = kubectl.list("pvc")
        assert [claim["metadata"]["name"] for claim in claims] == [workspace.child], "the volume is kept"
        killed = operator.starts > 1
    return Life(killed, tuple(states), uids.count(), len(claims))


def reached(workspace: Workspace, kind: str, reason: str) -> str:
    """Wait until the state is reached and nothing more is written, and describe it without what differs by nature."""
    workspace.wait_reason(kind, reason, within=WITHIN)
    seen: list[Object] = []

    def settled() -> bool:
        seen.append(workspace.resource)
        return len(seen) > 5 and all(one == seen[-1] for one in seen[-5:])

    eventually(f"{kind} has settled", settled, within=WITHIN)
    return described(seen[-1])


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
    told |= {key: status.get(key) for key in ("podName", "claimName", "restarts", "suspendReason", "observedTouch")}
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
