"""A long conversation through several gateways that are killed one after the other loses and doubles no turn.

CHAT_TURNS and CHAT_KILL_SECONDS make it longer, or the kills more frequent.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from support.kubectl import SYSTEM_NAMESPACE, Kubectl
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.users import User

TURNS = int(os.environ.get("CHAT_TURNS", "200"))
KILL_SECONDS = float(os.environ.get("CHAT_KILL_SECONDS", "2"))
REPLICAS = 3
TURN_SECONDS = 90.0
"""The most that one turn may take, with all its repetitions."""
SETTLED = 10
"""So many answers in a row show that no connection goes to a gateway that has gone."""
DEPLOYMENT = "dexorder-gateway"
SELECTOR = ("--selector", "app.kubernetes.io/name=dexorder-gateway,pod-template-hash")


class Gateways:
    """The gateway's deployment."""

    def __init__(self, system: Kubectl, url: str) -> None:
        self._system = system
        self._url = url

    def pods(self) -> list[str]:
        """The names of the pods that run, without those that end."""
        found = self._system.list("pods", *SELECTOR)
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def replicas(self) -> int:
        deployment = self._system.get("deployment", DEPLOYMENT)
        assert deployment is not None
        return int(deployment["spec"]["replicas"])

    def scale(self, replicas: int) -> None:
        """Scale and wait until exactly so many serve, and nobody is sent to another."""
        self._system.run("scale", "deployment", DEPLOYMENT, f"--replicas={replicas}")
        self.settle(replicas)

    def settle(self, replicas: int) -> None:
        """Wait until exactly so many gateways run, all are ready, and every connection reaches one of them."""
        eventually(f"{replicas} gateways are ready", lambda: self._are(replicas), within=180, every=0.5)
        answered = 0

        def serves() -> bool:
            nonlocal answered
            answered = answered + 1 if self._answers() else 0
            return answered >= SETTLED

        eventually("the gateway answers every time", serves, within=120, every=0.1)

    def _are(self, replicas: int) -> bool:
        deployment = self._system.get("deployment", DEPLOYMENT)
        assert deployment is not None
        status = deployment.get("status", {})
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
        observed = status.get("observedGeneration") == deployment["metadata"]["generation"]
        return observed and counts == [replicas] * 4 and len(self._system.list("pods", *SELECTOR)) == replicas

    def _answers(self) -> bool:
        try:
            with httpx2.Client(trust_env=False, timeout=5) as client:
                return client.get(f"{self._url}/healthz").status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    def kill_one(self, number: int) -> None:
        """Kill one of them without giving it time to end in order."""
        pods = sorted(self.pods())
        if pods:
            name = pods[number % len(pods)]
            self._system.run("delete", "pod", name, "--force", "--grace-period=0", "--wait=false", "--ignore-not-found")


class Killer(threading.Thread):
    """Kills one gateway every few seconds."""

    def __init__(self, gateways: Gateways) -> None:
        super().__init__(daemon=True)
        self._gateways = gateways
        self._over = threading.Event()
        self.kills = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(KILL_SECONDS):
                self._gateways.kill_one(self.kills)
                self.kills += 1
        except Exception as error:
            self.failure = error

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def gateways(gateway_url: str) -> Iterator[Gateways]:
    """Several gateways. Afterwards there are as many as before, all of them serve, and nothing else is asked."""
    found = Gateways(Kubectl(SYSTEM_NAMESPACE), gateway_url)
    before = found.replicas()
    try:
        found.scale(REPLICAS)
        yield found
    finally:
        found.scale(before)


class Conversation:
    """A client that repeats a request until it is answered, as the official ones do, under the same key."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._token = user.token
        self._url = f"{user.gateway_url}/v1"
        self.id = f"long-{secrets.token_hex(6)}"
        self.repeats: list[str] = []

    def _request(self, method: str, path: str, key: str | None = None, body: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"} | ({"Idempotency-Key": key} if key else {})
        deadline = time.monotonic() + TURN_SECONDS
        while True:
            try:
                # A connection of its own each time, so that all gateways get their share.
                with httpx2.Client(trust_env=False, timeout=30) as client:
                    response = client.request(method, f"{self._url}/{path}", json=body, headers=headers)
                if response.status_code == httpx2.codes.OK:
                    return response.json()
                trouble = f"{response.status_code} {response.text[:200]}"
            except httpx2.TransportError as error:
                trouble = repr(error)
            self.repeats.append(trouble)
            assert time.monotonic() < deadline, f"no answer within {TURN_SECONDS:g} s: {self.repeats[-10:]}"
            time.sleep(0.3)

    def say(self, text: str) -> str:
        """One turn, acknowledged: the answer."""
        body = {
            "model": "default",
            "messages": [{"role": "user", "content": text}],
            "metadata": {"conversation_id": self.id},
        }
        answer = self._request("POST", "chat/completions", secrets.token_hex(8), body)
        assert answer["dexorder"]["saved"] is True, answer
        content: str = answer["choices"][0]["message"]["content"]
        return content

    def read(self) -> list[dict[str, Any]]:
        """The whole conversation."""
        messages: list[dict[str, Any]] = self._request("GET", f"conversations/{self.id}?last=10000")["messages"]
        return messages


def test_every_acknowledged_turn_is_kept_once_in_order_while_gateways_are_killed(
    settled_user: User, gateways: Gateways
) -> None:
    conversation = Conversation(settled_user)
    killer = Killer(gateways)
    killer.start()
    answers = {}
    try:
        for number in range(TURNS):
            text = f"/platform_time\nturn {number}" if number % 2 else f"turn {number}"
            answers[text] = conversation.say(text)
        # A fast machine must not be done before anybody was killed.
        eventually("gateways were killed", lambda: killer.kills >= REPLICAS or killer.failure, within=60)
        answers["/platform_time"] = conversation.say("/platform_time")
    finally:
        killer.end()
    assert killer.failure is None
    print(f"{len(answers)} turns, {killer.kills} gateways killed, {len(conversation.repeats)} requests repeated")
    kept = conversation.read()
    assert [message["content"] for message in kept if message["role"] == "user"] == list(answers)
    ends = {message["key"]: message for message in kept if message["role"] == "assistant"}
    keys = [message["key"] for message in kept if message["role"] == "user"]
    assert len(set(keys)) == len(answers)
    assert [ends[key]["turn"]["state"] for key in keys] == ["complete"] * len(answers)
    assert [ends[key]["content"] for key in keys] == list(answers.values())
