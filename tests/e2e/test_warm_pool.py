"""A tier with a warm pool: a new user takes a started pod over, volume included, and the pool is filled again."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import pytest

from support.kubectl import KubectlError
from support.waiting import eventually
from support.workspace import tier_manifest
from test_api_writes import Writes, all_quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

    from support.kubectl import Kubectl, Object
    from support.users import User
    from support.workspace import Workspace

SIZE = 2
FILL_SECONDS = 120.0
"""Two members are started one beside the other, behind whatever else starts."""
MUCH_FASTER = 3
"""A warm start is faster than a cold one by at least this factor, in the same run."""
WARM_WRITES = 4
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(duration: str) -> float:
    """A duration of a status, such as `1s250ms`."""
    parts: list[tuple[str, str]] = re.findall(r"(\d+)(ms|h|m|s)", duration)
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def tier(name: str, image: str) -> Object:
    """A tier with a pool."""
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    return tier_manifest(name, resources=resources, image=image, warmPool={"size": SIZE})


class Pool:
    """The free members of a tier's pool, as kubectl shows them."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.kubectl = kubectl
        self.tier = name

    def free(self, kind: str) -> list[Object]:
        """The pods or claims that are nobody's and do not end."""
        found = self.kubectl.list(kind, f"--selector=dexorder.io/pool={self.tier},!dexorder.io/workspace")
        return [item for item in found if "deletionTimestamp" not in item["metadata"]]

    def ready(self) -> list[str]:
        """Names of the members that can be taken over."""
        return sorted(
            pod["metadata"]["name"]
            for pod in self.free("pods")
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        )

    def wait_full(self) -> list[str]:
        """Wait until there are as many as the tier asks for, each with its claim, and no more."""

        def full() -> list[str] | None:
            ready, pods, claims = self.ready(), self.free("pods"), self.free("pvc")
            return ready if len(ready) == len(pods) == len(claims) == SIZE else None

        return eventually(f"{SIZE} members of {self.tier}", full, within=FILL_SECONDS, every=0.5)

    def set_size(self, size: int) -> None:
        self.kubectl.patch("workspacetier", self.tier, {"spec": {"warmPool": {"size": size}}})

    def wait_empty(self) -> None:
        eventually(
            "the members are removed",
            lambda: not self.kubectl.list("pods,pvc", f"--selector=dexorder.io/pool={self.tier}"),
            within=FILL_SECONDS,
            every=0.5,
        )


@pytest.fixture
def pool(kubectl: Kubectl) -> Iterator[Pool]:
    """A tier whose pool is full."""
    standard = kubectl.get("workspacetier", "standard")
    assert standard is not None
    made = Pool(kubectl, f"warm-{secrets.token_hex(3)}")
    kubectl.apply(tier(made.tier, standard["spec"]["image"]))
    try:
        made.wait_full()
        yield made
    finally:
        kubectl.run("delete", "workspacetier", made.tier, "--ignore-not-found")
        made.wait_empty()


def pod_of(workspace: Workspace) -> Object:
    """The pod that the status names."""
    pod = workspace.kubectl.get("pod", workspace.status["podName"])
    assert pod is not None
    return pod


def volume_of(workspace: Workspace) -> str:
    """The volume of the claim that the status names."""
    claim = workspace.kubectl.get("pvc", workspace.status["claimName"])
    assert claim is not None
    volume: str = claim["spec"]["volumeName"]
    return volume


def test_new_users_take_members_over_and_the_pool_is_filled_again(
    pool: Pool, new_user: Callable[[], User], system: Kubectl, kubectl: Kubectl, http: httpx2.Client
) -> None:
    cold_user, first, second = new_user(), new_user(), new_user()
    # What a member has not starts cold, in the same tier and the same run.
    cold = cold_user.make_workspace(tier=pool.tier, template={"env": [{"name": "DESK", "value": "rates"}]})
    cold.wait("Ready")
    assert cold.status["start"]["kind"] == "Cold"
    before = pool.wait_full()

    eventually("the other workspaces are quiet", lambda: all_quiet(kubectl), within=120)
    writes = Writes(system, http)
    so_far = writes.so_far()
    workspace = first.make_workspace(tier=pool.tier)
    workspace.wait("Ready")
    status = workspace.status
    assert status["start"]["kind"] == "Warm"
    assert status["podName"] == status["claimName"]
    assert status["podName"] in before
    warm, usual = seconds(status["startDuration"]), seconds(cold.status["startDuration"])
    assert warm * MUCH_FASTER < usual, f"warm {warm} s, cold {usual} s"

    # It is the user's own, and works as any other.
    assert first.mcp.call("write_file", path="note.txt", content="mine")["commit"]
    assert first.mcp.call("read_file", path="note.txt")["content"] == "mine"
    pod = pod_of(workspace)
    assert [owner["uid"] for owner in pod["metadata"]["ownerReferences"]] == [workspace.uid]
    assert "dexorder.io/pool" not in pod["metadata"]["labels"]
    up_to_date = workspace.condition("UpToDate")
    assert up_to_date is not None
    assert up_to_date.status == "True"

    # The pool's own new member costs its creation; what the workspace costs are patches and an event.
    pool.wait_full()
    spent = writes.since(so_far)
    of_workspace = {labels: count for labels, count in spent.items() if "patch" in labels or "Event" in labels}
    assert sum(of_workspace.values()) <= WARM_WRITES, spent

    other = second.make_workspace(tier=pool.tier)
    other.wait("Ready")
    assert other.status["start"]["kind"] == "Warm"
    assert volume_of(other) != volume_of(workspace)
    assert "note.txt" not in str(second.mcp.call("list_files"))
    members = pool.wait_full()
    assert not {workspace.status["podName"], other.status["podName"]} & set(members)


def test_what_was_taken_over_stops_starts_goes_and_comes_back_with_its_data(
    pool: Pool, new_user: Callable[[], User]
) -> None:
    user = new_user()
    workspace = user.make_workspace(tier=pool.tier)
    workspace.wait("Ready")
    assert workspace.status["start"]["kind"] == "Warm"
    member, volume = workspace.status["podName"], volume_of(workspace)
    user.mcp.call("write_file", path="note.txt", content="kept")

    workspace.change(operatingMode="Suspended")
    workspace.wait("Suspended", within=60)
    eventually("the member's pod is gone", lambda: workspace.kubectl.get("pod", member) is None, within=60)
    workspace.change(operatingMode="Auto")
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"
    workspace.wait("Ready")
    status = workspace.status
    assert (status["podName"], status["claimName"]) == (workspace.child, member)
    assert status["start"]["kind"] == "Resume"

    workspace.kubectl.run("delete", "uws", workspace.name)
    eventually("its pod is gone", lambda: workspace.pod is None, within=90)
    again = user.make_workspace(workspace.name, tier=pool.tier)
    again.wait("Ready")
    assert again.status["claimName"] == member
    assert volume_of(again) == volume
    assert user.mcp.call("read_file", path="note.txt")["content"] == "kept"


def test_a_kept_claim_of_a_member_is_nobody_elses(pool: Pool, new_user: Callable[[], User]) -> None:
    user, other = new_user(), new_user()
    workspace = user.make_workspace(tier=pool.tier)
    workspace.wait("Ready")
    member = workspace.status["claimName"]
    workspace.kubectl.run("delete", "uws", workspace.name)
    eventually("its pod is gone", lambda: workspace.kubectl.get("pod", member) is None, within=90)
    taken = other.make_workspace(workspace.name, tier=pool.tier)
    found = taken.wait_reason("StorageReady", "ClaimOfAnotherUser")
    assert member in found.message


def test_without_members_users_start_cold_and_a_tier_that_is_gone_leaves_none(
    pool: Pool, new_user: Callable[[], User], kubectl: Kubectl
) -> None:
    user, taker = new_user(), new_user()
    warm = taker.make_workspace(tier=pool.tier)
    warm.wait("Ready")
    assert warm.status["start"]["kind"] == "Warm"
    pool.set_size(0)
    pool.wait_empty()
    workspace = user.make_workspace(tier=pool.tier)
    workspace.wait("Ready")
    assert workspace.status["start"]["kind"] == "Cold"
    assert workspace.status["podName"] == workspace.child

    pool.set_size(SIZE)
    pool.wait_full()
    kubectl.run("delete", "workspacetier", pool.tier)
    pool.wait_empty()
    # What was given away is the user's.
    assert pod_of(warm)["metadata"]["uid"] == warm.status["podUID"]
    with pytest.raises(KubectlError, match="timed out"):
        kubectl.wait("pod", warm.status["podName"], "delete", within=5)
