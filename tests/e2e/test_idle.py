"""A workspace that nobody uses stops at its timeout; one that works does not; a touch wakes it."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2

from support.mcp_http import headers, payload
from support.waiting import eventually
from support.workspace import parse_time

if TYPE_CHECKING:
    from support.kubectl import Kubectl, Object
    from support.users import User
    from support.workspace import Workspace

SLOW = '''"""Takes its time."""

import time

import numpy as np


def compute(close: np.ndarray, *, seconds: float = 1.0) -> np.ndarray:
    time.sleep(seconds)
    return close
'''
TOUCH = "dexorder.io/touched-at"
IN_FLIGHT = "dexorder_sidecar_in_flight"
SLACK = timedelta(seconds=6)
"""How much later than its deadline a suspend may come on a busy two-core machine."""


def touch(workspace: Workspace) -> None:
    """Wake it as a person would."""
    now = datetime.now(UTC).isoformat()
    workspace.kubectl.run("annotate", "uws", workspace.name, "--overwrite", f"{TOUCH}={now}")


def test_an_unused_workspace_is_suspended_at_its_timeout_and_keeps_its_claim(user: User) -> None:
    workspace = user.make_workspace(idleTimeout="6s")
    workspace.wait("Ready")
    running = workspace.status
    assert parse_time(running["idleDeadlineTime"]) > parse_time(running["readyTime"])
    workspace.wait("Suspended", within=40)

    status = workspace.status
    quiet = parse_time(status["suspendTime"]) - parse_time(running["readyTime"])
    assert timedelta(seconds=5) <= quiet <= timedelta(seconds=6) + SLACK
    assert status["suspendReason"] == "Idle"
    for kind, reason in [("Ready", "Suspended"), ("Suspended", "Idle")]:
        found = workspace.condition(kind)
        assert found is not None
        assert found.reason == reason
    assert "endpoint" not in status
    assert workspace.pod is None
    assert workspace.claim is not None


def test_a_call_that_runs_past_the_deadline_keeps_its_workspace(user: User) -> None:
    """A run of 9 s with an idle timeout of 5 s: the workspace is not idle, and is suspended only after the run."""
    workspace = user.make_workspace(idleTimeout="5s")
    user.mcp.call("save_indicator", name="slow", source=SLOW)
    before = workspace.pod_uid
    run = user.mcp.call("run_indicator", name="slow", parameters={"seconds": 9.0}, last=1)
    ended = datetime.now(UTC)
    assert run["milliseconds"] >= 9000
    assert workspace.pod_uid == before
    assert "suspendTime" not in workspace.status

    workspace.wait_reason("Ready", "Suspended", within=40)
    assert parse_time(workspace.status["suspendTime"]) - ended >= timedelta(seconds=4)


def test_calls_that_keep_coming_keep_it_awake(user: User) -> None:
    workspace = user.make_workspace(idleTimeout="5s")
    user.mcp.call("save_indicator", name="slow", source=SLOW)
    before = workspace.pod_uid
    for _ in range(3):
        user.mcp.call("run_indicator", name="slow", parameters={"seconds": 2.5}, last=1)
    assert workspace.pod_uid == before
    assert "suspendTime" not in workspace.status


def test_a_client_that_only_listens_does_not_keep_it_awake(user: User) -> None:
    """An open stream of a forgotten tab is no activity."""
    workspace = user.make_workspace(idleTimeout="5s")
    mcp = user.mcp
    mcp.tools()
    opened, closed = threading.Event(), threading.Event()

    def listen() -> None:
        method, params = "subscriptions/listen", {"notifications": {"resourcesListChanged": True}}
        sent = {**mcp.credentials, **headers(method, params)}
        with (
            contextlib.suppress(httpx2.RemoteProtocolError),
            mcp.http.stream("POST", mcp.url, json=payload(method, params), headers=sent) as stream,
        ):
            if stream.headers.get("content-type", "").startswith("text/event-stream"):
                opened.set()
            for _ in stream.iter_bytes():
                pass
        closed.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert opened.wait(10), "the stream did not open"
    workspace.wait_reason("Ready", "Suspended", within=40)
    assert closed.wait(10), "the stream stayed open after the workspace was stopped"


def test_a_touch_wakes_a_suspended_workspace(user: User) -> None:
    workspace = user.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    workspace.change(operatingMode="Auto")
    touch(workspace)
    workspace.wait("Ready")
    assert workspace.status["observedTouch"] == workspace.resource["metadata"]["annotations"][TOUCH]


def test_a_request_wakes_a_suspended_workspace_and_is_held_until_it_answers(user: User) -> None:
    workspace = user.make_workspace(idleTimeout="5s")
    workspace.wait("Suspended", within=60)
    assert "run_indicator" in user.mcp.tools()
    workspace.wait("Ready")


def test_many_requests_at_once_wake_it_once(user: User) -> None:
    workspace = user.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    workspace.change(operatingMode="Auto")
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(user.mcp.tools())) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(answers) == len(callers)
    assert workspace.status.get("restarts", 0) == 0


def test_a_request_that_meets_the_suspend_is_answered(user: User) -> None:
    """Calls come just when the idle workspace is about to stop: none is lost, by this pod or by the next one."""
    workspace = user.make_workspace(idleTimeout="5s")
    user.mcp.tools()
    wait_for_drain(workspace)
    for number in range(3):
        user.mcp.call("set_user_profile", text=f"profile {number}")
    assert user.mcp.read("context://user-profile").strip() == "profile 2"
    log = user.mcp.call("history_log", path="context/user-profile.md")["commits"]
    assert len([commit for commit in log if commit["message"].startswith("Set the user profile")]) == 3


def test_a_request_during_a_drain_is_held_for_the_next_pod(user: User) -> None:
    """A slow run keeps the drain going; what comes in meanwhile is answered by the pod after it."""
    workspace = user.make_workspace()
    user.mcp.call("save_indicator", name="slow", source=SLOW)
    before = workspace.pod_uid
    slow: list[Any] = []
    call = {"name": "slow", "parameters": {"seconds": 5.0}, "last": 1}
    runner = threading.Thread(target=lambda: slow.append(user.mcp.call("run_indicator", **call)))
    runner.start()
    eventually("the slow run is under way", lambda: in_flight(workspace) > 0, within=10)
    workspace.change(operatingMode="Suspended")
    wait_for_drain(workspace)
    workspace.change(operatingMode="Auto")
    user.mcp.call("set_user_profile", text="of the next pod")
    assert workspace.pod_uid not in (None, before)
    runner.join()
    # What ran when the drain began has ended as if nothing had happened.
    assert slow[0]["milliseconds"] >= 5000


def wait_for_drain(workspace: Workspace) -> None:
    """Wait until the workspace is no longer ready, looking often."""
    eventually(
        "the workspace drains",
        lambda: (found := workspace.condition("Ready")) is not None and found.reason != "Ready",
        within=40,
        every=0.02,
    )


def in_flight(workspace: Workspace) -> float:
    """The running requests, as the sidecar's metrics say."""
    endpoint: str = workspace.status["endpoint"]
    metrics = httpx2.get(endpoint.replace(":8080/mcp", ":8081/metrics"), trust_env=False).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(IN_FLIGHT + " "))


def test_a_restart_of_the_operator_keeps_the_idle_deadline(user: User, system: Kubectl) -> None:
    """The clock of idleness is not the operator's memory: it goes on where it was."""
    workspace = user.make_workspace(idleTimeout="20s")
    workspace.wait("Ready")
    deadline = workspace.status["idleDeadlineTime"]
    restart_operator(system)
    assert workspace.status["idleDeadlineTime"] == deadline
    workspace.wait("Suspended", within=60)
    late = parse_time(workspace.status["suspendTime"]) - parse_time(deadline)
    assert timedelta(seconds=-2) <= late <= SLACK


def restart_operator(system: Kubectl) -> None:
    """Delete the operator's pods and wait until others lead."""
    selector = "--selector=app.kubernetes.io/name=dexorder-operator"
    before = {pod["metadata"]["uid"] for pod in system.list("pods", selector)}
    assert before, "the operator has no pod"
    system.run("delete", "pods", selector, "--wait=false")

    def replaced() -> list[Object] | None:
        pods = [pod for pod in system.list("pods", selector) if pod["metadata"]["uid"] not in before]
        return pods or None

    eventually("the operator's next pod", replaced, within=60)
    system.run("rollout", "status", "deployment/dexorder-operator", "--timeout=60s", timeout=70)
