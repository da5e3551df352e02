"""What a run can see: its workspace's files, Python with its packages, and as much of the network as the tier allows."""

from __future__ import annotations

import os
import site
import sys

from dexorder_agent.sandbox import landlock

GIT_FOLDER = ".git"
PORTS: dict[str, tuple[int, ...] | None] = {"None": (), "Web": (53, 80, 443), "Any": None}
"""TCP ports by what the tier allows; None are all."""


def narrow(repository: str, packages: str | None, egress: str) -> bool:
    """Take all else out of this process's sight; False if the kernel can't."""
    return landlock.restrict(
        readable=[*landlock.SYSTEM, *PYTHON, *([packages.partition("/lib/python")[0]] if packages else []), *_work(repository)],
        # Python looks for modules by the names in the folder.
        listed=[repository],
        ports=PORTS[egress],
    )


def _work(repository: str) -> list[str]:
    try:
        with os.scandir(repository) as entries:
            return [entry.path for entry in entries if entry.name != GIT_FOLDER and not entry.is_symlink()]
    except OSError:
        return []


def _python() -> list[str]:
    """The folders of Python and its packages."""
    found = {os.path.realpath(path) for path in [*sys.path, *site.getsitepackages(), os.path.dirname(os.__file__)] if os.path.isdir(path)}
    found |= {os.path.join(os.path.realpath(prefix), "lib") for prefix in (sys.prefix, sys.base_prefix)}
    # The folder that the process was started in may be anything.
    return sorted(found - {"/", os.getcwd()})


PYTHON = _python()
