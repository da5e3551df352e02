"""What a tool asks a client of 2025-11-25 in the middle of a call: the answer may come through another replica of the gateway than the
call, and counts in its own session alone. The suite knows one address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from support.kubectl import SYSTEM_NAMESPACE, Kubectl
from support.legacy import LegacyClient
from support.waiting import eventually

DEPLOYMENT = "dexorder-gateway"
SELECTOR = ("--selector", "app.kubernetes.io/name=dexorder-gateway,pod-template-hash")
READY_SECONDS = 120.0
CALL_SECONDS = 60.0
Check = tuple[str, bool]


def check(token: str) -> Iterator[Check]:
    """Call through one replica and answer through the other, and say of each property whether it holds."""
    credentials = {"authorization": f"Bearer {token}"}
    with _two_replicas() as (first, second), httpx2.Client(trust_env=False, timeout=CALL_SECONDS) as http:
        one = LegacyClient.connect(http, first, credentials)
        another = LegacyClient.connect(http, second, credentials)
        there = one.at(second)
        yield "a session of one replica is good at the other", there.result("ping", {}) == {}
        with one.call("test_elicitation", {"message": "who?"}) as stream:
            question = next(stream)
            yield "the question is on the call's stream", question.get("method") == "elicitation/create"
            statuses = another.answer(question, _accepted("username", "eve")), there.answer(question, _accepted("username", "ada"))
            yield "answers are accepted", statuses == (202, 202)
            text = next(stream)["result"]["content"][0]["text"]
            yield "the answer through the other replica reaches the call", "ada" in text
            yield "that of another session does not", "eve" not in text
        with one.call("test_input_required_result_multi_round", {}) as stream:
            for field, value in (("name", "ada"), ("color", "blue")):
                there.answer(next(stream), _accepted(field, value))
            yield "so it is in a second round", next(stream)["result"]["content"][0]["text"] == "ada likes blue"


def _accepted(field: str, value: str) -> dict[str, Any]:
    return {"action": "accept", "content": {field: value}}


@contextmanager
def _two_replicas() -> Iterator[tuple[str, str]]:
    """The addresses of two gateways. Afterwards there are as many as before."""
    system = Kubectl(SYSTEM_NAMESPACE)
    deployment = system.get("deployment", DEPLOYMENT)
    if deployment is None:
        raise RuntimeError(f"there is no deployment {DEPLOYMENT} in {SYSTEM_NAMESPACE}")
    before = int(deployment["spec"]["replicas"])

    def addresses() -> list[str] | None:
        found = [_address(pod) for pod in system.list("pods", *SELECTOR) if "deletionTimestamp" not in pod["metadata"]]
        ready = [address for address in found if address is not None]
        return ready if len(ready) == len(found) >= 2 else None

    if before < 2:
        system.run("scale", "deployment", DEPLOYMENT, "--replicas=2")
    try:
        first, second = eventually("two gateways are ready", addresses, within=READY_SECONDS)[:2]
        yield first, second
    finally:
        system.run("scale", "deployment", DEPLOYMENT, f"--replicas={before}")


def _address(pod: dict[str, Any]) -> str | None:
    """Where a gateway takes MCP, if it is ready."""
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", ())}
    if conditions.get("Ready") != "True":
        return None
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    return f"http://{pod['status']['podIP']}:{port}/mcp"
