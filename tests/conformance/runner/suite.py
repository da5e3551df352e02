"""The suite: which scenarios it requires, and what came of a run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
FOLDER = HERE.parents[1] / ".local" / "conformance"
NODE = FOLDER / "node_modules" / ".bin" / "node"
INDEX = FOLDER / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
RUN_SECONDS = 300
_LINE = re.compile(r"^[✓✗] (?P<name>\S+): (?P<passed>\d+) passed, (?P<failed>\d+) failed$")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What came of a scenario: its checks."""

    name: str
    passed: int
    failed: int

    @property
    def holds(self) -> bool:
        """Whether something was checked and nothing failed: the suite calls a scenario without a single check a pass."""
        return self.failed == 0 and self.passed > 0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run."""

    required: list[Scenario]
    others: list[Scenario]
    output: str

    @property
    def failures(self) -> list[Scenario]:
        return [scenario for scenario in self.required if not scenario.holds]


def required(revision: str) -> list[str]:
    """The scenarios for servers that a revision requires."""
    text = _suite("list", "--requirements", revision).stdout
    section = text.partition("Server scenarios")[2].partition("Client scenarios")[0]
    names = re.findall(r"^ {2}- (\S+)$", section, re.MULTILINE)
    if not names:
        raise RuntimeError(f"the suite lists no server scenarios for {revision}:\n{text}")
    return names


def run(url: str, revision: str, results: Path, only: Sequence[str] = (), excused: frozenset[str] = frozenset()) -> Result:
    """Run all scenarios of a revision against a server, and count all or only some, without the excused checks."""
    names = only or required(revision)
    done = _suite("server", "--url", url, "--requirements", revision, "--output-dir", str(results))
    output = done.stdout + done.stderr
    found = {}
    for line in output.splitlines():
        if match := _LINE.match(line):
            found[match["name"]] = Scenario(match["name"], int(match["passed"]), int(match["failed"]))
    missing = [name for name in names if name not in found]
    if missing:
        raise RuntimeError(f"the suite did not run {', '.join(missing)}:\n{output}")
    wanted = [_without(found.pop(name), excused, results) for name in names]
    return Result(wanted, [] if only else list(found.values()), output)


def _without(scenario: Scenario, excused: frozenset[str], results: Path) -> Scenario:
    """The scenario without the excused checks that failed."""
    failed = 0
    for file in results.glob(f"*{scenario.name}-*/checks.json") if excused else ():
        failed += sum(check["id"] in excused and check["status"] == "FAILURE" for check in json.loads(file.read_text()))
    return replace(scenario, failed=scenario.failed - failed)


@contextmanager
def address(target: str, token: str = "", names: Mapping[str, Any] | None = None) -> Iterator[str]:
    """A loopback address that stands for the gateway, or for an agent's socket, adds the token, and translates the suite's names."""
    command = [str(NODE), str(HERE / "proxy.mjs"), target]
    environment = {"TOKEN": token, "NAMES": json.dumps(names or {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as proxy:
        try:
            assert proxy.stdout is not None
            line = proxy.stdout.readline().strip()
            if not line:
                raise RuntimeError("the proxy of the suite did not start")
            yield line
        finally:
            proxy.terminate()


def _suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(NODE), str(INDEX), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
