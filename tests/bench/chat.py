"""What the gateway adds to a turn of the chat: everything but the model and the tools, with a workspace that runs.

A gateway of the installed image runs in a pod of its own beside a model that is a script on the same pod's loopback. In
one round after the other, over one kept connection:
- turn: a request of a conversation that the workspace keeps, until its whole answer, less the time that the model took,
  as its server measures it: from the arrival of the gateway's question to the last byte of the answer. It covers
  waking nothing, reading the context, the tools and the earlier turns, streaming, and both writes to the workspace,
  each synced to the disk and committed before it is acknowledged; the first of them may fall into the model's time.
- first word: the same request until the first text of the answer, less the time that the model is told to wait.
- gateway: what the gateway itself counts as its overhead, dexorder_gateway_chat_overhead_seconds: the mean.
- save: one write alone, as a client of MCP sees it: append_conversation with two short messages.
- read: one read of a conversation alone, as a client of MCP sees it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from support.kubectl import SYSTEM_NAMESPACE, WORKSPACE_NAMESPACE, Kubectl
from support.scripted_gateway import ScriptedGateway
from support.users import User

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT = Path(__file__).resolve().parents[2] / ".local" / "bench" / "chat.json"
GOAL = 0.015
"""The most that the median of the turns may take."""


@dataclass
class Times:
    """Seconds of each round."""

    turn: list[float] = field(default_factory=list)
    first_word: list[float] = field(default_factory=list)
    save: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)


def one_turn(client: httpx2.Client, url: str, token: str, conversation: str) -> tuple[float, float]:
    """Run a turn; returns the time to its first word and to its end, with all that the model took."""
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "say It is what it is."}],
        "metadata": {"conversation_id": conversation},
        "stream": True,
    }
    first, saved = None, None
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {token}"}
    with client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        assert response.status_code == httpx2.codes.OK, response.read()
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            choice = chunk["choices"][0] if chunk.get("choices") else {}
            if first is None and choice.get("delta", {}).get("content"):
                first = time.perf_counter() - began
            if choice.get("finish_reason"):
                saved = chunk["dexorder"]["saved"]
    whole = time.perf_counter() - began
    assert saved is True
    assert first is not None
    return first, whole


def timed(call: Callable[[], object]) -> float:
    """The seconds that the call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(user: User, scripted: ScriptedGateway, url: str, rounds: int, pause: float) -> Times:
    """All rounds. A conversation is begun anew every 20 turns, so that its length is that of a usual one."""
    times = Times()
    token, mcp = user.token, user.mcp
    with httpx2.Client(trust_env=False, timeout=60) as client:
        for number in range(-5, rounds):
            if number == -5 or number % 20 == 0:
                conversation = f"bench-{secrets.token_hex(6)}"
            first, whole = one_turn(client, url, token, conversation)
            said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            append = partial(mcp.call, "append_conversation", messages=said, conversation="bench-save")
            save = timed(partial(append, idempotency_key=secrets.token_hex(8)))
            read = timed(partial(mcp.call, "read_conversation", conversation=conversation, last=1000))
            # The first rounds fill caches and connections.
            if number >= 0:
                times.first_word.append(first - pause)
                times.turn.append(whole)
                times.save.append(save)
                times.read.append(read)
    took = scripted.took()[-rounds:]
    assert len(took) == rounds
    times.turn = [whole - model for whole, model in zip(times.turn, took, strict=True)]
    return times


def counted(url: str) -> float:
    """The mean of what the gateway counts as its overhead, in seconds."""
    address = url.removeprefix("http://").partition(":")[0]
    text = httpx2.get(f"http://{address}:9090/metrics", trust_env=False).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    name = "dexorder_gateway_chat_overhead_seconds"
    return float(values[f"{name}_sum"]) / float(values[f"{name}_count"])


def summary(values: list[float]) -> dict[str, Any]:
    """The figures of one row, in milliseconds."""
    ordered = sorted(values)
    row = {"median": statistics.median(ordered), "p90": ordered[int(len(ordered) * 0.9)], "least": ordered[0]}
    return {name: round(value * 1000, 2) for name, value in row.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds that the model takes to its first word")
    arguments = parser.parse_args()
    kubectl, system = Kubectl(WORKSPACE_NAMESPACE), Kubectl(SYSTEM_NAMESPACE)
    tier = kubectl.get("workspacetier", "standard")
    assert tier is not None
    scripted = ScriptedGateway(system, f"chat-bench-{secrets.token_hex(3)}", "openai")
    with httpx2.Client(trust_env=False, timeout=90) as http:
        user = User.of_environment(f"bench-chat-{secrets.token_hex(4)}", kubectl, http)
        try:
            user.make_workspace(idleTimeout="1h").wait("Ready")
            url = scripted.start(agent_image=tier["spec"]["image"], pause=arguments.pause)
            times = measure(user, scripted, url, arguments.rounds, arguments.pause)
            mean = counted(url)
        finally:
            scripted.stop()
            user.remove()
    rows = {name: summary(values) for name, values in vars(times).items()}
    rows["gateway"] = {"mean": round(mean * 1000, 2)}
    result = {"milliseconds": rows, "rounds": arguments.rounds, "pause": arguments.pause, "goal": GOAL * 1000}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")

    print(f"\n{'milliseconds':<14}{'median':>8}{'p90':>8}{'least':>8}")
    for name in vars(times):
        row = rows[name]
        print(f"{name.replace('_', ' '):<14}{row['median']:>8.1f}{row['p90']:>8.1f}{row['least']:>8.1f}")
    print(f"what the gateway counts itself, the mean: {mean * 1000:.1f}")
    print(f"goal of a turn's median: at most {GOAL * 1000:g}; written to {RESULT}")


if __name__ == "__main__":
    main()
