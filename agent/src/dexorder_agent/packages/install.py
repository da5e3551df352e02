"""Solves and installs packages into a new prefix, in a process of its own: the solver is large and not needed otherwise.

Takes an order as JSON on standard input, tells its progress and its end as JSON lines on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from rattler import RepoDataRecord, VirtualPackage, install, solve
from rattler.exceptions import SolverError
from rattler.install import InstallerReporter


def tell(**what: Any) -> None:
    """One line to the agent."""
    print(json.dumps(what), flush=True)


class Reporter(InstallerReporter):
    """Tells which package is being fetched or put in place."""

    def __init__(self) -> None:
        self._total = self._done = 0

    def on_transaction_start(self, total_operations: int) -> None:
        """How many packages there are."""
        self._total = total_operations

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        """A package is fetched, unless it is in the cache."""
        tell(done=self._done, total=self._total, message=f"getting {package_name}")
        return operation

    def on_link_start(self, operation: int, package_name: str) -> int:
        """A package is put in place."""
        tell(done=self._done, total=self._total, message=f"installing {package_name}")
        return operation

    def on_link_complete(self, index: int) -> None:
        """A package is in place."""
        self._done += 1


def unneeded(records: list[RepoDataRecord], specs: list[str], base: set[str]) -> set[str]:
    """The packages that are not to be installed: those of the base, and those that nothing but the base needs."""
    depends = {record.name.normalized: [_name(spec) for spec in record.depends] for record in records}
    found: set[str] = set()
    todo = [_name(spec) for spec in specs]
    while todo:
        name = todo.pop()
        if name in depends and name not in base and name not in found:
            found.add(name)
            todo += depends[name]
    return base | (set(depends) - found)


def _name(spec: str) -> str:
    return re.split(r"[\s=<>!~\[]", spec.strip(), maxsplit=1)[0].lower()


async def main() -> None:
    """Do as ordered. Packages of the base are fixed in their versions and not installed again."""
    order = json.load(sys.stdin)
    base: dict[str, str] = order["base"]
    tell(done=0, total=None, message=f"looking for versions in {', '.join(order['channels'])}")
    records = await solve(
        sources=order["channels"],
        specs=order["specs"],
        constraints=[f"{name} {version}" for name, version in base.items()],
        virtual_packages=VirtualPackage.detect(),
        timestamp_policy="allow-missing",
    )
    prefix = Path(order["prefix"])
    (prefix / "conda-meta").mkdir(parents=True)
    # Packages for Python find it where conda would have put it.
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(sys.executable)
    await install(
        records=records,
        target_prefix=prefix,
        ignored_packages=unneeded(records, order["specs"], set(base)),
        execute_link_scripts=False,
        show_progress=False,
        reporter=Reporter(),  # type: ignore[abstract]
    )
    os.sync()
    tell(installed=True)


if __name__ == "__main__":
    status = 0
    try:
        asyncio.run(main())
    except Exception as error:
        tell(error=str(error) or type(error).__name__, unsolved=isinstance(error, SolverError))
        status = 1
    # The library's threads now and then crash while the interpreter is taken down; by now all is done.
    sys.stdout.flush()
    os._exit(status)
