"""What a tool asks a client of 2025-11-25 in the middle of a call: the answer may come through another replica of the gateway than the
call, and counts in its own session alone. The suite knows one address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
from support.kubectl import SYSTEM_NAMESPACE, Kubectl
from support.waiting import eventually

REVISION = "2025-11-25"
DEPLOYMENT = "dexorder-gateway"
SELECTOR = ("--selector", "app.kubernetes.io/name=dexorder-gateway,pod-template-hash")
READY_SECONDS = 120.0
CALL_SECONDS = 60.0
CAPABILITIES: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}
Message = dict[str, Any]
Check = tuple[str, bool]


def check(token: str) -> Iterator[Check]:
    """Call through one replica and answer through the other, and say of each property whether it holds."""
    with _two_replicas() as (first, second), ExitStack() as stack:
        http = stack.enter_context(httpx2.Client(trust_env=False, timeout=CALL_SECONDS))
        one, other = _Client(http, first, token), _Client(http, second, token)
        session, another = one.initialize(), other.initialize()
        yield "a session of one replica is good at the other", other.result(session, "ping", {}) == {}
        with one.call(session, "test_elicitation", {"message": "who?"}) as stream:
            question = next(stream)
            yield "the question is on the call's stream", question.get("method") == "elicitation/create"
            wrong = other.answer(another, question["id"], "eve")
            right = other.answer(session, question["id"], "ada")
            yield "answers are accepted", (wrong, right) == (202, 202)
            text = next(stream)["result"]["content"][0]["text"]
            yield "the answer through the other replica reaches the call", "ada" in text
            yield "that of another session does not", "eve" not in text
        with one.call(session, "test_input_required_result_multi_round", {}) as stream:
            for field, value in (("name", "ada"), ("color", "blue")):
                other.answer(session, next(stream)["id"], value, field)
            yield "so it is in a second round", next(stream)["result"]["content"][0]["text"] == "ada likes blue"


class _Client:
    def __init__(self, http: httpx2.Client, url: str, token: str) -> None:
        self._http, self._url = http, url
        self._headers = {
            "authorization": f"Bearer {token}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": REVISION,
        }

    def initialize(self) -> str:
        info = {"name": "conformance", "version": "1"}
        response = self._post({}, _request("initialize", {"protocolVersion": REVISION, "capabilities": CAPABILITIES, "clientInfo": info}))
        return str(response.headers["mcp-session-id"])

    def result(self, session: str, method: str, params: Message) -> Any:
        return self._post({"mcp-session-id": session}, _request(method, params)).json()["result"]

    def answer(self, session: str, request_id: str, value: str, field: str = "username") -> int:
        result = {"action": "accept", "content": {field: value, "email": "x@example.com"}}
        return self._post({"mcp-session-id": session}, {"jsonrpc": "2.0", "id": request_id, "result": result}).status_code

    @contextmanager
    def call(self, session: str, tool: str, arguments: Message) -> Iterator[Iterator[Message]]:
        """The messages of a call as they come."""
        message = _request("tools/call", {"name": tool, "arguments": arguments})
        headers = self._headers | {"mcp-session-id": session}
        with self._http.stream("POST", self._url, headers=headers, json=message) as response:
            response.raise_for_status()
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
            yield (json.loads(line) for line in lines)

    def _post(self, headers: dict[str, str], message: Message) -> httpx2.Response:
        return self._http.post(self._url, headers=self._headers | headers, json=message)


def _request(method: str, params: Message) -> Message:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


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


def _address(pod: Message) -> str | None:
    """Where a gateway takes MCP, if it is ready."""
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", ())}
    if conditions.get("Ready") != "True":
        return None
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    return f"http://{pod['status']['podIP']}:{port}/mcp"
