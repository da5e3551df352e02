"""The operator writes little: a cold start, a suspend, a resume and a quiet minute have a budget of API writes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import pytest

from support.waiting import eventually
from support.workspace import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from support.kubectl import Kubectl, Object
    from support.users import User
    from support.workspace import Workspace

COLD_START, SUSPEND, RESUME = 6, 4, 4
SAMPLE = re.compile(r"^dexorder_api_writes_total\{(?P<labels>[^}]*)\} (?P<value>[0-9.e+]+)$", re.MULTILINE)
# Nobody but the operator writes these, as the API server counts them and as the operator does.
ITS_OWN = {
    ("userworkspaces", "status", "APPLY"): 'verb="patch",kind="UserWorkspace"',
    ("pods", "", "POST"): 'verb="create",kind="Pod"',
    ("persistentvolumeclaims", "", "POST"): 'verb="create",kind="PersistentVolumeClaim"',
}
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Writes:
    """Counts the API writes that the operator says it made."""

    system: Kubectl
    http: httpx2.Client

    def addresses(self) -> list[str]:
        """The addresses of the operator's pods."""
        pods = self.system.list("pods", "--selector=app.kubernetes.io/name=dexorder-operator")
        return [pod["status"]["podIP"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def so_far(self) -> dict[str, float]:
        """The writes by verb and kind, without the lease, which is the operator's own."""
        counted: dict[str, float] = {}
        for address in self.addresses():
            text = self.http.get(f"http://{address}:8081/metrics").text
            # An operator that has just started has written nothing, and counts nothing yet.
            assert "dexorder_leader" in text, "the operator's metrics are not there"
            for sample in SAMPLE.finditer(text):
                labels = sample["labels"]
                if 'kind="Lease"' not in labels:
                    counted[labels] = counted.get(labels, 0) + float(sample["value"])
        return counted

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """What was written since, by verb and kind."""
        now = self.so_far()
        return {labels: now[labels] - before.get(labels, 0) for labels in now if now[labels] > before.get(labels, 0)}


@pytest.fixture
def writes(system: Kubectl, kubectl: Kubectl, http: httpx2.Client) -> Writes:
    """The count, once no other workspace will be written to while the test counts."""
    eventually("the other workspaces are quiet", lambda: all_quiet(kubectl), within=120)
    return Writes(system, http)


def all_quiet(kubectl: Kubectl) -> bool:
    """Whether no workspace is on its way somewhere or has a deadline soon, and nothing is being deleted."""
    if kubectl.list("pods", "--field-selector=status.phase=Pending"):
        return False
    pods = kubectl.list("pods")
    if any("deletionTimestamp" in pod["metadata"] for pod in pods):
        return False
    return all(quiet(item) for item in kubectl.list("uws"))


def quiet(workspace: Object) -> bool:
    status = workspace.get("status", {})
    # One that is about to stop has no deadline any more.
    if any(condition["reason"] in {"Starting", "Draining"} for condition in status.get("conditions", [])):
        return False
    deadline = status.get("idleDeadlineTime")
    return deadline is None or parse_time(deadline) - datetime.now(UTC) > timedelta(seconds=100)


def settle(workspace: Workspace, writes: Writes, reason: str) -> None:
    """Wait until the state is reached and the operator has written what it has to say about it."""
    workspace.wait_reason("Ready", reason, within=60)
    seen: list[dict[str, float]] = []

    def still() -> bool:
        seen.append(writes.so_far())
        return len(seen) > 5 and all(count == seen[-1] for count in seen[-5:])

    eventually("the operator has nothing more to write", still, within=20, every=0.3)


def writes_as_the_api_server_counts(kubectl: Kubectl) -> dict[str, float]:
    """The writes that are the operator's alone, from the API server's own metrics."""
    counted = dict.fromkeys(ITS_OWN.values(), 0.0)
    for line in kubectl.run("get", "--raw", "/metrics").splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(LABEL.findall(line))
            verb = "APPLY" if labels["verb"] in {"PATCH", "PUT"} and labels["subresource"] else labels["verb"]
            name = ITS_OWN.get((labels["resource"], labels["subresource"], verb))
            if name is not None:
                counted[name] += float(line.rsplit(" ", 1)[1])
    return counted


def test_a_cold_start_a_suspend_and_a_resume_stay_within_their_budgets(
    new_user: Callable[[], User], writes: Writes, kubectl: Kubectl
) -> None:
    def measured(user: User) -> tuple[tuple[dict[str, float], ...], dict[str, float], dict[str, float]]:
        before, theirs = writes.so_far(), writes_as_the_api_server_counts(kubectl)
        stages = life(user, writes)
        after, ours = writes_as_the_api_server_counts(kubectl), writes.since(before)
        seen = {name: count - theirs[name] for name, count in after.items()}
        return stages, {name: ours.get(name, 0.0) for name in seen}, seen

    (cold, suspend, resume), ours, theirs = undisturbed(kubectl, new_user, measured)
    assert 3 <= sum(cold.values()) <= COLD_START, f"cold start: {cold}"
    assert 2 <= sum(suspend.values()) <= SUSPEND, f"suspend: {suspend}"
    assert 2 <= sum(resume.values()) <= RESUME, f"resume: {resume}"
    # What the operator says of itself is what the API server has seen.
    assert ours == theirs
    assert (ours['verb="create",kind="PersistentVolumeClaim"'], ours['verb="create",kind="Pod"']) == (1, 2)


def life(user: User, writes: Writes) -> tuple[dict[str, float], ...]:
    """The writes of a cold start, of a suspend and of a resume."""
    before = writes.so_far()
    workspace = user.make_workspace()
    settle(workspace, writes, "Ready")
    cold = writes.since(before)

    before = writes.so_far()
    workspace.change(operatingMode="Suspended")
    settle(workspace, writes, "Suspended")
    suspend = writes.since(before)

    workspace.change(operatingMode="Auto")
    settle(workspace, writes, "Suspended")
    before = writes.so_far()
    user.mcp.tools()
    settle(workspace, writes, "Ready")
    return cold, suspend, writes.since(before)


T = TypeVar("T")


def undisturbed(kubectl: Kubectl, new_user: Callable[[], User], measure: Callable[[User], T], *others: User) -> T:
    """Measure with a new user, and again if a foreign workspace changed: the count doesn't tell them apart."""

    def attempt() -> tuple[T] | None:
        user = new_user()
        mine = {user.id, *(other.id for other in others)}
        before = foreign_versions(kubectl, mine)
        measured = measure(user)
        return (measured,) if foreign_versions(kubectl, mine) == before else None

    return eventually("a measurement that nobody disturbs", attempt, within=120)[0]


def foreign_versions(kubectl: Kubectl, mine: set[str]) -> dict[str, str]:
    """The versions of the workspaces of other users."""
    foreign = [item["metadata"] for item in kubectl.list("uws") if item["spec"]["userId"] not in mine]
    return {metadata["name"]: metadata["resourceVersion"] for metadata in foreign}


def test_a_minute_of_idle_and_of_busy_workspaces_costs_no_write(
    new_user: Callable[[], User], writes: Writes, kubectl: Kubectl
) -> None:
    """One user's workspace does nothing, another's is called all the time; both have an hour to idle."""
    resting = new_user()
    settle(resting.make_workspace(idleTimeout="1h"), writes, "Ready")

    def minute(busy: User) -> dict[str, float]:
        settle(busy.make_workspace(idleTimeout="1h"), writes, "Ready")
        before, ends, calls = writes.so_far(), time.monotonic() + 60, 0
        while time.monotonic() < ends:
            busy.mcp.call("run_indicator", name="rsi", last=1)
            calls += 1
        assert calls > 100
        return writes.since(before)

    assert undisturbed(kubectl, new_user, minute, resting) == {}
