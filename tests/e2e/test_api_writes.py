"""The operator writes little: a cold start, a suspend, a resume and a quiet minute have a budget of API writes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

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
STATUS_WRITE = re.compile(
    r'^apiserver_request_total\{.*resource="userworkspaces".*subresource="status".*verb="(APPLY|PATCH|PUT)"'
)


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
            for sample in SAMPLE.finditer(text):
                labels = sample["labels"]
                if 'kind="Lease"' not in labels:
                    counted[labels] = counted.get(labels, 0) + float(sample["value"])
        assert counted, "the operator's metrics have no dexorder_api_writes_total"
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
    deadline = workspace.get("status", {}).get("idleDeadlineTime")
    return deadline is None or parse_time(deadline) - datetime.now(UTC) > timedelta(seconds=100)


def settle(workspace: Workspace, writes: Writes, reason: str) -> None:
    """Wait until the state is reached and the operator has written what it has to say about it."""
    workspace.wait_reason("Ready", reason, within=60)
    seen: list[dict[str, float]] = []

    def still() -> bool:
        seen.append(writes.so_far())
        return len(seen) > 5 and all(count == seen[-1] for count in seen[-5:])

    eventually("the operator has nothing more to write", still, within=20, every=0.3)


def status_writes(kubectl: Kubectl) -> float:
    """The writes to the status of workspaces, as the API server counts them."""
    text = kubectl.run("get", "--raw", "/metrics")
    counted = 0.0
    for line in text.splitlines():
        if STATUS_WRITE.search(line):
            counted += float(line.rsplit(" ", 1)[1])
    return counted


def test_a_cold_start_a_suspend_and_a_resume_stay_within_their_budgets(user: User, writes: Writes) -> None:
    before = writes.so_far()
    workspace = user.make_workspace()
    settle(workspace, writes, "Ready")
    cold = writes.since(before)
    assert 3 <= sum(cold.values()) <= COLD_START, f"cold start: {cold}"

    before = writes.so_far()
    workspace.change(operatingMode="Suspended")
    settle(workspace, writes, "Suspended")
    suspend = writes.since(before)
    assert 2 <= sum(suspend.values()) <= SUSPEND, f"suspend: {suspend}"

    workspace.change(operatingMode="Auto")
    settle(workspace, writes, "Suspended")
    before = writes.so_far()
    user.mcp.tools()
    settle(workspace, writes, "Ready")
    resume = writes.since(before)
    assert 2 <= sum(resume.values()) <= RESUME, f"resume: {resume}"


def test_a_minute_of_idle_and_of_busy_workspaces_costs_no_write(new_user: Callable[[], User], writes: Writes) -> None:
    """One user's workspace does nothing, another's is called all the time; both have an hour to idle."""
    resting, busy = new_user(), new_user()
    workspaces = [user.make_workspace(idleTimeout="1h") for user in (resting, busy)]
    for workspace in workspaces:
        settle(workspace, writes, "Ready")

    before, ends, calls = writes.so_far(), time.monotonic() + 60, 0
    while time.monotonic() < ends:
        busy.mcp.call("run_indicator", name="rsi", last=1)
        calls += 1
    assert calls > 100
    assert writes.since(before) == {}


def test_the_operators_count_agrees_with_the_api_servers(user: User, writes: Writes, kubectl: Kubectl) -> None:
    ours, theirs = writes.so_far(), status_writes(kubectl)
    workspace = user.make_workspace()
    settle(workspace, writes, "Ready")
    counted = {labels: count for labels, count in writes.since(ours).items() if 'kind="UserWorkspace"' in labels}
    assert counted
    assert sum(counted.values()) == status_writes(kubectl) - theirs
