"""The commands of the local cluster, in the checkout that made it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

COMMAND_SECONDS = 240.0


def cluster_command(*command: str, within: float = COMMAND_SECONDS) -> None:
    """Run a command of tests/cluster; an AssertionError has what it printed."""
    folder = Path(os.environ["KUBECONFIG"]).resolve().parents[1] / "tests" / "cluster"
    program, *arguments = command
    done = subprocess.run(
        [str(folder / program), *arguments], capture_output=True, text=True, timeout=within, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
