"""Whatever the user's code does, the answer names it and other calls go on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import anyio
import pytest
from support import Agent, wait_until

pytestmark = pytest.mark.anyio

CASES = {
    "endless": ("while True: pass", "ran longer than the 2 s"),
    "exit": ("import os; os._exit(3)", "ended its own process with status 3"),
    "sysexit": ("import sys; sys.exit(0)", "called exit"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "segmentation fault"),
    "abort": ("import os; os.abort()", "aborted in native code"),
    "memory": ("bytearray(1 << 34)", "more than the 256 MiB"),
    "hoard": ("x = []\n    while True: x.append(bytearray(1 << 20))", "more than the 256 MiB"),
    "recursion": ("return compute(close)", "RecursionError"),
    "print": ("while True: print('x' * 1000)", "printed more than the 64 KiB"),
    "fork": ("import os; os.fork()", "can't start processes"),
    "shell": ("import subprocess; subprocess.run(['id'])", "can't start processes"),
    "thread": ("import threading; threading.Thread(target=print).start()", "can't start processes or threads"),
    "network": ("import socket; socket.create_connection(('127.0.0.1', 80))", "use the network"),
    "write": ("open('/tmp/written-by-an-indicator', 'w')", "write files"),
    "remove": ("import os; os.remove('README.md')", "write files"),
    "kill": ("import os; os.kill(os.getppid(), 9)", "Operation not permitted"),
    "limits": ("import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (1, 1))", "not permitted"),
    "raise": ("return close / {}", "line 2: TypeError"),
    "import": ("import pandas", "ModuleNotFoundError"),
    "nothing": ("return None", "no array of numbers"),
    "shape": ("return close[1:]", "one value for each bar"),
    "answer": ("import os; os.write(3, b'x' * 100000); os._exit(0)", "can't be read"),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_error_names_what_happened(agent: Agent, case: str) -> None:
    code, complaint = CASES[case]
    await agent.call("save_indicator", name="bad", source=f"def compute(close):\n    {code}\n")
    assert complaint in await agent.fails("run_indicator", name="bad")
    assert agent.status()["busy"] == []
    assert not Path("/tmp/written-by-an-indicator").exists()


async def test_other_calls_go_on_beside_an_endless_one(agent: Agent) -> None:
    await agent.call("save_indicator", name="bad", source="def compute(close):\n    while True: pass\n")
    async with asyncio.TaskGroup() as group:
        endless = group.create_task(agent.fails("run_indicator", name="bad"))
        while agent.status()["busy"] != ["run_indicator bad"]:
            await asyncio.sleep(0.005)
        assert (await agent.call("run_indicator", name="sma", last=1))["outputs"]["sma"][0] > 0
        assert await agent.read("context://system-prompt")
        assert not endless.done()
    assert "ran longer" in endless.result()


async def test_a_cancelled_call_stops_the_code(agent: Agent) -> None:
    await agent.call("save_indicator", name="bad", source="def compute(close):\n    while True: pass\n")
    before = children(agent)
    async with agent.client() as client:
        with anyio.move_on_after(0.5):
            await client.call_tool("run_indicator", {"name": "bad"})
    started = time.monotonic()
    wait_until(lambda: agent.status()["busy"] == [])
    wait_until(lambda: children(agent) == before)
    assert time.monotonic() - started < 1, "the code ran on to its time limit"


async def test_the_code_sees_nothing_of_the_agents_environment(new_agent: Agent) -> None:
    new_agent._environment["API_TOKEN"] = "secret-value"
    new_agent.start()
    await new_agent.call(
        "save_indicator", name="peek", source="import os\ndef compute(close):\n    print(dict(os.environ))\n    return close\n"
    )
    printed = (await new_agent.call("run_indicator", name="peek", last=1))["printed"]
    assert "HOME" in printed and "secret-value" not in printed


async def test_the_warm_process_comes_back(agent: Agent) -> None:
    (zygote,) = children(agent)
    Path(f"/proc/{zygote}/oom_score_adj").read_text()
    import os
    import signal

    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: children(agent) != [zygote])
    assert (await agent.call("run_indicator", name="sma", last=1))["outputs"]["sma"][0] > 0


async def test_a_warm_run_is_quick(agent: Agent) -> None:
    times = [(await agent.call("run_indicator", name="sma", last=1))["milliseconds"] for _ in range(20)]
    assert sorted(times)[10] < 50


def children(agent: Agent) -> list[int]:
    """The processes below the agent's."""
    return agent.processes()[1:]
