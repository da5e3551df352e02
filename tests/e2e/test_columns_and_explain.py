"""What a person sees with kubectl: columns, short names, explanations, events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.waiting import eventually

if TYPE_CHECKING:
    from support.kubectl import Kubectl
    from support.users import User


def columns(table: str) -> dict[str, str]:
    """The one row of a table by its headings. Headings are apart by two spaces or more."""
    heading, row = table.splitlines()
    starts = [0] + [at for at in range(2, len(heading)) if heading[at] != " " and heading[at - 2 : at] == "  "]
    ends = [*starts[1:], None]
    return {heading[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def test_the_columns_read_well(settled_user: User) -> None:
    workspace = settled_user.workspace
    workspace.wait("Ready")
    row = columns(workspace.kubectl.run("get", "uws", workspace.name))
    assert list(row) == ["NAME", "TIER", "AUTH", "STATUS", "IDLE DEADLINE", "AGE"]
    assert row["NAME"] == workspace.name
    assert (row["TIER"], row["AUTH"], row["STATUS"]) == ("standard", "Gateway", "Ready")
    assert row["IDLE DEADLINE"] == workspace.status["idleDeadlineTime"]

    wide = columns(workspace.kubectl.run("get", "userworkspaces", workspace.name, "--output", "wide"))
    assert list(wide) == [*row, "USER", "ENDPOINT"]
    assert wide["USER"] == settled_user.id
    assert wide["ENDPOINT"] == workspace.status["endpoint"]


def test_the_status_column_follows_the_workspace(user: User) -> None:
    workspace = user.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    row = columns(workspace.kubectl.run("get", "uws", workspace.name))
    assert row["STATUS"] == "Suspended"
    assert row["IDLE DEADLINE"] == ""


def test_the_tiers_of_the_chart_read_well(kubectl: Kubectl) -> None:
    table = kubectl.run("get", "workspacetiers").splitlines()
    assert table[0].split() == ["NAME", "IDLE", "MOST", "ACCESS", "STORAGE", "AGE"]
    rows = {line.split()[0]: line.split()[1:-1] for line in table[1:]}
    assert {"free", "standard", "enterprise"} <= set(rows)
    assert rows["free"][:3] == ["15m", "15m", "ReadOnly"]


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("uws", "One user's workspace"),
        ("uws.spec.idleTimeout", "Time without activity after which the workspace is stopped, such as `30m`"),
        ("uws.spec.operatingMode", "kept stopped"),
        ("uws.spec.auth.direct", "Needed with `Direct`, refused otherwise"),
        ("uws.status.idleDeadlineTime", "When the operator next asks"),
        ("wtier.spec.idleTimeout.most", "Longest idle timeout that a workspace may ask for"),
    ],
)
def test_explain_is_useful(field: str, told: str, kubectl: Kubectl) -> None:
    explained = " ".join(kubectl.run("explain", field).split())
    assert told in explained


@pytest.mark.parametrize("resource", ["uws", "wtier"])
def test_every_field_of_ours_is_explained(resource: str, kubectl: Kubectl) -> None:
    crd = kubectl.get("crd", {"uws": "userworkspaces", "wtier": "workspacetiers"}[resource] + ".dexorder.io")
    assert crd is not None
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    unexplained = [
        path
        for part in ("spec", "status")
        if part in schema["properties"]
        for path, field in fields(part, schema["properties"][part])
        if not field.get("description")
    ]
    assert unexplained == []


def fields(path: str, schema: dict[str, object]) -> list[tuple[str, dict[str, object]]]:
    """Every property below a schema with its path."""
    found = []
    properties = schema.get("properties") or {}
    assert isinstance(properties, dict)
    for name, field in properties.items():
        found += [(f"{path}.{name}", field), *fields(f"{path}.{name}", field)]
    items = schema.get("items")
    if isinstance(items, dict):
        found += fields(path, items)
    return found


def test_workspaces_can_be_picked_by_user_and_by_tier(settled_user: User, kubectl: Kubectl) -> None:
    picked = kubectl.list("uws", "--field-selector", f"spec.userId={settled_user.id},spec.tier=standard")
    assert [item["metadata"]["name"] for item in picked] == [settled_user.workspace.name]


def test_events_tell_the_life_of_a_workspace(user: User) -> None:
    workspace = user.make_workspace()
    workspace.wait("Ready")
    workspace.change(operatingMode="Suspended")
    workspace.wait("Suspended", within=40)

    def reasons() -> set[str] | None:
        events = workspace.kubectl.list("events", f"--field-selector=involvedObject.name={workspace.name}")
        seen = {event["reason"] for event in events}
        return seen if {"Started", "Suspended"} <= seen else None

    eventually("events of the start and of the stop", reasons, within=10)
