"""Whatever the user's code does, the answer names it and other calls go on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Agent, slowness, wait_until

from dexorder_agent.sandbox import landlock

pytestmark = pytest.mark.anyio

CASES = {
    "endless": ("while True: pass", "ran longer than the 2 s"),
    "exit": ("import os; os._exit(3)", "ended its own process with status 3"),
    "sysexit": ("import sys; sys.exit(0)", "called exit"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "segmentation fault"),
    "abort": ("import os; os.abort()", "aborted in native code"),
    "memory": ("bytearray(10 << 30)", "more than the 256 MiB"),
    "array": ("import numpy; numpy.ones(10 << 27)", "more than the 256 MiB"),
    "hoard": ("x = []\n    while True: x.append(bytearray(1 << 20))", "more than the 256 MiB"),
    "recursion": ("return compute(close)", "RecursionError"),
    "print": ("while True: print('x' * 1000)", "printed more than the 64 KiB"),
    "fork": ("import os; os.fork()", "can't start processes"),
    "forkbomb": ("import os\n    while True: os.fork()", "can't start processes"),
    "server": ("import socket; socket.socket().bind(('127.0.0.1', 0))", "use the network"),
    "socket": ("import socket; socket.socket(socket.AF_UNIX)", "use the network"),
    "shell": ("import subprocess; subprocess.run(['id'])", "can't start processes"),
    "thread": ("import threading; threading.Thread(target=print).start()", "can't start processes or threads"),
    "network": ("import socket; socket.create_connection(('127.0.0.1', 80))", "use the network"),
    "write": ("open('/tmp/written-by-an-indicator', 'w')", "write files"),
    "remove": ("import os; os.remove('README.md')", "write files"),
    "kill": ("import os; os.kill(os.getppid(), 9)", "Operation not permitted"),
    "limits": ("import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (1, 1))", "not permitted"),
    "raise": ("return close / {}", "line 2: TypeError"),
    "import": ("import nosuchmodule", "ModuleNotFoundError"),
    "nothing": ("return None", "no array of numbers"),
    "shape": ("return close[1:]", "one value for each bar"),
    "answer": ("import os; os.write(3, b'x' * 100000); os._exit(0)", "can't be read"),
}


LIMIT_SECONDS = 2.0
BEYOND_SECONDS = 3.0
"""A busy machine needs some time for the rest of the call."""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent whose runs may take so long."""
    running = Agent(tmp_path_factory.mktemp("isolation"), AGENT_RUN_SECONDS=f"{LIMIT_SECONDS:g}").start()
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("case", CASES)
async def test_the_error_names_what_happened(agent: Agent, case: str) -> None:
    code, complaint = CASES[case]
    await agent.call("save_indicator", name="bad", source=f"def compute(close):\n    {code}\n")
    started = time.monotonic()
    assert complaint in await agent.fails("run_indicator", name="bad")
    assert time.monotonic() - started < LIMIT_SECONDS + BEYOND_SECONDS
    assert agent.status()["busy"] == []
    assert not Path("/tmp/written-by-an-indicator").exists()


BESIDE = ("endless", "forkbomb", "hoard", "print", "segfault", "recursion")


async def test_other_calls_go_on_beside_any_of_it(agent: Agent) -> None:
    for case in BESIDE:
        await agent.call("save_indicator", name=f"bad_{case}", source=f"def compute(close):\n    {CASES[case][0]}\n")

    async def again_and_again(case: str) -> None:
        while not endless.done():
            told = await agent.fails("run_indicator", name=f"bad_{case}")
            # Where the machine is busy, several at once come to the limit of time before any other.
            assert CASES[case][1] in told or CASES["endless"][1] in told

    async with asyncio.TaskGroup() as group:
        endless = group.create_task(agent.fails("run_indicator", name="bad_endless"))
        while "run_indicator bad_endless" not in agent.status()["busy"]:
            await asyncio.sleep(0.005)
        others = [group.create_task(again_and_again(case)) for case in BESIDE[1:]]
        assert (await agent.call("run_indicator", name="sma", last=1))["outputs"]["sma"][0] > 0
        assert await agent.read("context://system-prompt")
        assert (await agent.call("write_file", path="notes/beside.md", content="saved\n"))["changed"]
        assert not endless.done() and not all(other.done() for other in others)
    assert CASES["endless"][1] in endless.result()
    for case in BESIDE:
        await agent.call("delete_indicator", name=f"bad_{case}")


async def test_a_cancelled_call_stops_the_code(new_agent: Agent) -> None:
    new_agent._environment["AGENT_RUN_SECONDS"] = "60"
    new_agent.start()
    await new_agent.call("save_indicator", name="bad", source="def compute(close):\n    while True: pass\n")
    async with new_agent.client() as client:
        running = asyncio.create_task(client.call_tool("run_indicator", {"name": "bad"}))
        await asyncio.to_thread(wait_until, lambda: new_agent.status()["busy"] == ["run_indicator bad"])
        running.cancel()
        # Long before its time is over. What is left is the warm process.
        await asyncio.to_thread(wait_until, lambda: new_agent.status()["busy"] == [])
        await asyncio.to_thread(wait_until, lambda: len(children(new_agent)) == 1)


async def test_the_code_sees_nothing_of_the_agents_environment(new_agent: Agent) -> None:
    new_agent._environment["API_TOKEN"] = "secret-value"
    new_agent.start()
    await new_agent.call(
        "save_indicator", name="peek", source="import os\ndef compute(close):\n    print(dict(os.environ))\n    return close\n"
    )
    printed = (await new_agent.call("run_indicator", name="peek", last=1))["printed"]
    assert "HOME" in printed and "secret-value" not in printed


SEES = """
import os
from pathlib import Path
def compute(close):
    here = Path(__file__).parent.parent
    tried = {tried}
    for path in tried:
        try:
            seen = Path(path)
            print(path, "seen", sorted(os.listdir(path))[:3] if seen.is_dir() else seen.read_bytes()[:20])
        except OSError as error:
            print(path, type(error).__name__)
    print((here / "data/ibm-daily.csv").read_text()[:4], (here / "indicators/sma.py").read_text()[:9], os.listdir(here / "data") != [])
    import sqlite3, zoneinfo, numpy.fft, decimal
    return close
"""


async def test_the_code_sees_its_workspace_and_python_and_nothing_else(new_agent: Agent, tmp_path: Path) -> None:
    if landlock.version() == 0:
        pytest.skip("this kernel has no Landlock")
    secret = tmp_path / "credentials/password"
    secret.parent.mkdir()
    secret.write_text("secret-value")
    new_agent.start()
    assert new_agent.process is not None
    hidden = [
        str(secret), str(secret.parent), str(tmp_path), f"/proc/{new_agent.process.pid}/environ", "/proc", "/proc/self/environ",
        str(new_agent.repository / ".git/config"), "/etc/passwd", "/root", "/home", str(new_agent.folder / "log"), "/tmp", "/",
    ]  # fmt: skip
    await new_agent.call("save_indicator", name="peek", source=SEES.format(tried=hidden))
    told = (await new_agent.call("run_indicator", name="peek", last=1))["printed"].splitlines()
    assert told == [*(f"{path} PermissionError" for path in hidden), 'date """Simple True']
    reads = f"def compute(close):\n    open({str(secret)!r})\n"
    await new_agent.call("save_indicator", name="peek", source=reads)
    assert "can read the files of its workspace and of Python alone" in await new_agent.fails("run_indicator", name="peek")
    assert "user code is shut in" in (new_agent.folder / "log").read_text()


CONNECTS = """
import socket
def compute(close):
    with socket.create_connection(('127.0.0.1', {port})) as connection:
        print(connection.recv(5))
    return close
"""


@pytest.mark.parametrize("egress", ["Any", "Web"])
async def test_the_tier_may_let_the_code_connect(new_agent: Agent, egress: str) -> None:
    new_agent._environment["DEXORDER_EGRESS"] = egress
    new_agent.start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        await new_agent.call("save_indicator", name="connects", source=CONNECTS.format(port=port))
        if egress == "Web":
            if landlock.version() >= landlock.PORTS_SINCE:
                assert "but for web requests" in await new_agent.fails("run_indicator", name="connects", last=1)
            await new_agent.call("save_indicator", name="connects", source=CONNECTS.format(port=443))
            assert "ConnectionRefusedError" in await new_agent.fails("run_indicator", name="connects", last=1)
        else:
            running = asyncio.create_task(new_agent.call("run_indicator", name="connects", last=1))
            connection, _ = await asyncio.to_thread(server.accept)
            connection.sendall(b"hello")
            assert "hello" in (await running)["printed"]
            connection.close()
    for forbidden in ("socket.socket().bind(('127.0.0.1', 0))", "socket.socket(socket.AF_UNIX)", "socket.socket(socket.AF_NETLINK)"):
        source = f"import socket\ndef compute(close):\n    {forbidden}\n"
        await new_agent.call("save_indicator", name="serves", source=source)
        assert "a run can't" in await new_agent.fails("run_indicator", name="serves")


async def test_the_warm_process_comes_back(agent: Agent) -> None:
    await agent.call("run_indicator", name="sma", last=1)
    zygote, *_ = wait_until(lambda: len(found := children(agent)) == 1 and found)
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: children(agent) != [zygote])
    assert (await agent.call("run_indicator", name="sma", last=1))["outputs"]["sma"][0] > 0


async def test_a_warm_run_is_quick(agent: Agent) -> None:
    """Single-digit milliseconds; more only as far as something else keeps the machine busy."""
    times, slow = [], []
    for _ in range(5):
        slow.append(slowness(time.perf_counter))
        times += [(await agent.call("run_indicator", name="sma", last=1))["milliseconds"] for _ in range(8)]
    assert statistics.median(times) < 10 * max(slow) or min(times) < 10


def children(agent: Agent) -> list[int]:
    """The processes below the agent's."""
    return agent.processes()[1:]
