"""Entry point: one run for each revision and each state of the workspace, and a table of what came of them."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support import tokens
from support.kubectl import WORKSPACE_NAMESPACE, Kubectl
from support.workspace import Workspace, manifest

from runner import asking, offered, revisions, sessions, suite

REVISIONS = ("2026-07-28", "2025-11-25")
STATES = ("ready", "suspended")
STOP_SECONDS = 60.0
TOUCH = "dexorder.io/touched-at"


def main() -> int:
    """Run, and return the exit status."""
    parser = argparse.ArgumentParser(prog="tests/conformance/run")
    parser.add_argument("--image", help="image of the suite's server; left out: the agent itself, and what of the suite applies to it")
    parser.add_argument("--revision", choices=REVISIONS, action="append", help="only this one")
    parser.add_argument("--state", choices=STATES, action="append", help="only this one")
    options = parser.parse_args()
    gateway = os.environ["GATEWAY_URL"].rstrip("/")
    rows = [f"{'revision':<12}{'workspace':<12}{'required':>9}{'passed':>8}{'failed':>8}{'checks':>8}{'not scored':>13}"]
    details: list[str] = []
    with workspace(options.image) as (made, user):
        token = tokens.of_user(user, f"{gateway}/mcp")
        if not options.image:
            with suite.address(gateway, token) as url:
                offered.prepare(f"{url}/mcp")
        for revision in options.revision or REVISIONS:
            for state in options.state or STATES:
                bring(made, state)
                before = touch(made)
                counted = revisions.Counts()
                if options.image and state == "ready":
                    counted = revisions.read(f"{gateway}/mcp", token)
                results = suite.FOLDER / "results" / f"{revision}-{state}"
                shutil.rmtree(results, ignore_errors=True)
                names = None if options.image else offered.NAMES
                with suite.address(gateway, token, names) as url:
                    only = () if options.image else offered.SCENARIOS[revision]
                    excused = frozenset[str]() if options.image else offered.NEED_A_TOOL
                    result = suite.run(f"{url}/mcp", revision, results, only, excused)
                made.wait("Ready")
                woken = touch(made) != before
                if woken != (state == "suspended"):
                    raise RuntimeError(f"the workspace was {state}, and the gateway {'woke' if woken else 'did not wake'} it")
                rows.append(row(revision, state, result))
                details += describe(f"{revision} {state}", result)
                if options.image:
                    others = revisions.others(revision, counted, revisions.read(f"{gateway}/mcp", token))
                    details += [f"FAILED {revision} {state}: the server got requests of another revision: {others}"] if others else []
        if options.image and "2025-11-25" in (options.revision or REVISIONS):
            checks = list(asking.check(token))
            rows.append(f"questions to a client of 2025-11-25: {sum(held for _, held in checks)} of {len(checks)} properties hold")
            details += [f"FAILED questions: {what}" for what, held in checks if not held]
    if options.image and "2025-11-25" in (options.revision or REVISIONS):
        checks = list(sessions.check(gateway, Kubectl(WORKSPACE_NAMESPACE)))
        rows.append(f"sessions of the gateway: {sum(held for _, held in checks)} of {len(checks)} properties hold")
        details += [f"FAILED sessions: {what}" for what, held in checks if not held]
    print("\n".join(rows + details))
    return 1 if any(line.startswith("FAILED") for line in details) else 0


def row(revision: str, state: str, result: suite.Result) -> str:
    """The counts of a run."""
    required, failed = len(result.required), len(result.failures)
    checks = sum(scenario.passed for scenario in result.required)
    others = f"{sum(scenario.holds for scenario in result.others)} of {len(result.others)}"
    return f"{revision:<12}{state:<12}{required:>9}{required - failed:>8}{failed:>8}{checks:>8}{others:>13}"


def describe(name: str, result: suite.Result) -> list[str]:
    """What did not pass."""
    lines = [f"FAILED {name}: {one.name} ({one.passed} checks passed, {one.failed} failed)" for one in result.failures]
    others = [one.name for one in result.others if not one.holds]
    return [*lines, f"not scored and not passed, {name}: {', '.join(others)}"] if others else lines


def bring(made: Workspace, state: str) -> None:
    """Bring the workspace into a state. A suspended one may start again, and does at the first request."""
    if state == "suspended":
        made.change(operatingMode="Suspended")
        made.wait("Suspended", within=STOP_SECONDS)
        made.change(operatingMode="Auto")
        if made.pod is not None:
            raise RuntimeError(f"{made.name} has a pod though it is suspended")
    else:
        made.wait("Ready")


def touch(made: Workspace) -> str | None:
    """The last wake by the gateway."""
    found: str | None = made.resource["metadata"].get("annotations", {}).get(TOUCH)
    return found


@contextmanager
def workspace(image: str | None) -> Iterator[tuple[Workspace, str]]:
    """A workspace, with the suite's server in the agent's place if there is an image of it; removed in the end with its claim."""
    user = f"conformance-{secrets.token_hex(4)}"
    kubectl = Kubectl(WORKSPACE_NAMESPACE)
    made = Workspace(kubectl, user, user)
    # Running starts it without a request; Auto keeps it as it is until it is idle.
    spec: dict[str, Any] = {"operatingMode": "Running"}
    if image is not None:
        spec["template"] = {"image": image}
    kubectl.apply(manifest(user, user, **spec))
    try:
        made.wait("Ready")
        made.change(operatingMode="Auto")
        yield made, user
    finally:
        kubectl.run("delete", "uws", made.name, "--ignore-not-found", timeout=120)
        kubectl.run("delete", "pvc", made.child, "--ignore-not-found", timeout=120)


if __name__ == "__main__":
    sys.exit(main())
