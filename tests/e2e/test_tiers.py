"""A tier's terms reach its workspaces: at once, at the next start, or in a line; a tier that goes stops nothing."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from support.kubectl import KubectlError
from support.waiting import eventually
from support.workspace import parse_time, tier_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

    from support.kubectl import Kubectl, Object
    from support.users import User
    from support.workspace import Workspace

IN_LINE = 4
PHASES = ("request", "create", "scheduled", "pulled", "sidecarReady", "agentReady", "firstAnswer")
SAMPLE = r'^dexorder_start_phase_seconds_count\{kind="(\w+)",phase="answer",tier="TIER"\} (\d+)$'


class Tier:
    """A tier of a test's own."""

    def __init__(self, kubectl: Kubectl) -> None:
        standard = kubectl.get("workspacetier", "standard")
        assert standard is not None
        self.kubectl = kubectl
        self.name = f"terms-{secrets.token_hex(3)}"
        small = {"requests": {"cpu": "10m", "memory": "64Mi"}}
        self.usual: Object = {"image": standard["spec"]["image"], "resources": small}

    def set(self, **spec: Any) -> None:
        """Make the tier, or change it."""
        self.kubectl.apply(tier_manifest(self.name, **self.usual, **spec))

    def remove(self) -> None:
        self.kubectl.run("delete", "workspacetier", self.name, "--ignore-not-found")


@pytest.fixture
def tier(kubectl: Kubectl) -> Iterator[Tier]:
    """A tier of the test's own."""
    made = Tier(kubectl)
    made.set()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def scheduled(new_module_user: Callable[[], User]) -> Workspace:
    """A workspace that stops soon and is started every minute by the clock of Kathmandu."""
    schedule = {"schedule": "* * * * *", "timeZone": "Asia/Kathmandu"}
    return new_module_user().make_workspace(idleTimeout="5s", wakeSchedules=[schedule])


@pytest.mark.usefixtures("scheduled")
def test_a_changed_tier_is_taken_up_at_once_or_at_the_next_start_and_shown_until_then(user: User, tier: Tier) -> None:
    workspace = user.make_workspace(tier=tier.name)
    workspace.wait("Ready")
    before, deadline = workspace.pod_uid, workspace.status["idleDeadlineTime"]

    tier.usual["resources"] = {"requests": {"cpu": "11m", "memory": "64Mi"}}
    tier.set(idleTimeout={"default": "30m", "most": "1h"})
    pending = workspace.wait_reason("UpToDate", "PendingRestart")
    assert "the next start takes it up" in pending.message
    assert workspace.pod_uid == before
    workspace.change(operatingMode="Suspended")
    workspace.wait("Suspended", within=60)
    workspace.change(operatingMode="Auto")
    user.mcp.tools()
    workspace.wait("Ready")
    found = workspace.condition("UpToDate")
    assert found is not None
    assert found.status == "True"
    pod = workspace.pod
    assert pod is not None
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "11m"
    assert parse_time(workspace.status["idleDeadlineTime"]) < parse_time(deadline), "half an hour is less than an hour"


def test_a_tier_that_is_deleted_is_named_and_stops_nothing(user: User, tier: Tier) -> None:
    tier.set(idleTimeout={"default": "6s", "most": "1h"})
    workspace = user.make_workspace(tier=tier.name)
    workspace.wait("Ready")
    before = workspace.pod_uid
    tier.remove()
    found = workspace.wait_reason("Accepted", "TierNotFound")
    assert tier.name in found.message
    # With its tier it would have been suspended within this time.
    with pytest.raises(KubectlError, match="timed out"):
        workspace.kubectl.wait("uws", workspace.name, "condition=Suspended", within=12)
    assert workspace.pod_uid == before
    assert user.mcp.call("write_file", path="note.txt", content="kept")["commit"]
    tier.set(idleTimeout={"default": "6s", "most": "1h"})
    workspace.wait("Suspended", within=60)


def test_starts_of_a_tier_wait_in_line_and_are_told_their_place(
    new_user: Callable[[], User], tier: Tier, kubectl: Kubectl
) -> None:
    tier.set(maxConcurrentStarts=1)
    workspaces = {space.name: space for space in (new_user().make_workspace(tier=tier.name) for _ in range(IN_LINE))}
    places: dict[str, tuple[int, str]] = {}
    most = 0

    def all_ready() -> bool:
        nonlocal most
        mine = [item for item in kubectl.list("uws") if item["metadata"]["name"] in workspaces]
        told = {item["metadata"]["name"]: ready_of(item) for item in mine}
        for item in mine:
            if ready_of(item)[0] == "Queued":
                places[item["metadata"]["name"]] = (item["status"]["queuePosition"], ready_of(item)[1])
        pods = kubectl.list("pods", f"--selector=dexorder.io/tier={tier.name}")
        most = max(most, sum(pod["status"]["phase"] == "Pending" for pod in pods))
        return [reason for reason, _ in told.values()] == ["Ready"] * IN_LINE

    eventually("all are ready", all_ready, within=120)
    assert len(places) >= IN_LINE - 2, "all but the first have waited"
    assert all(place >= 1 and f"at place {place} or better" in message for place, message in places.values())
    assert most == 1, "one at a time"
    assert all("queuePosition" not in space.status for space in workspaces.values())


def ready_of(resource: Object) -> tuple[str, str]:
    """Reason and message of `Ready`."""
    conditions = resource.get("status", {}).get("conditions", [])
    return next(((one["reason"], one["message"]) for one in conditions if one["type"] == "Ready"), ("", ""))


def test_every_phase_of_a_start_is_told_up_to_the_first_answer(
    user: User, tier: Tier, system: Kubectl, http: httpx2.Client
) -> None:
    workspace = user.make_workspace(tier=tier.name)
    user.mcp.tools()
    workspace.wait("Ready")
    pods = system.list("pods", "--selector=app.kubernetes.io/name=dexorder-operator")

    def counted() -> list[tuple[str, str]]:
        texts = [http.get(f"http://{pod['status']['podIP']}:8081/metrics").text for pod in pods]
        return re.findall(SAMPLE.replace("TIER", tier.name), "\n".join(texts), re.MULTILINE)

    eventually("the first answer is counted", lambda: counted() == [("cold", "1")], within=20)
    # It costs no write of its own: by the next one it is there.
    workspace.change(operatingMode="Suspended")
    workspace.wait("Suspended", within=60)
    start = workspace.status["start"]
    assert start["kind"] == "Cold"
    times = {phase: parse_time(start[f"{phase}Time"]) for phase in PHASES}
    # What the kubelet tells of the containers may come later than their own word.
    assert times["request"] == min(times.values()), start
    assert times["request"] <= times["create"] <= times["scheduled"] <= times["pulled"], start
    assert times["sidecarReady"] <= times["agentReady"] <= times["firstAnswer"], start


def test_a_schedule_starts_a_stopped_workspace(scheduled: Workspace) -> None:
    """It has had the time of the other tests to stop and to be started again."""

    def resumed() -> bool:
        status = scheduled.status
        return status.get("start", {}).get("kind") == "Resume" and "readyTime" in status

    eventually("the schedule has started it", resumed, within=100)
    assert "dexorder.io/touched-at" not in scheduled.resource["metadata"].get("annotations", {})
    scheduled.wait("Suspended", within=60)
    status = scheduled.status
    assert parse_time(status["nextWakeTime"]) > parse_time(status["suspendTime"])
    assert parse_time(status["nextWakeTime"]).second == 0
