"""Installs the packages of environment.yml as a conda environment, with py-rattler.

conda.py FILE PREFIX CHANNEL
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from environment import packages
from rattler import VirtualPackage, install, solve


async def main() -> None:
    """Solve for this machine and put the packages into the prefix."""
    file, prefix, channel = sys.argv[1:]
    records = await solve(
        sources=[channel],
        specs=[package.conda for package in packages(Path(file).read_text())],
        virtual_packages=VirtualPackage.detect(),
    )
    await install(records=records, target_prefix=prefix, show_progress=False)
    for record in sorted(records, key=lambda record: record.name.normalized):
        print(record.name.normalized, record.version, record.build)


if __name__ == "__main__":
    asyncio.run(main())
    # The library's threads now and then crash while the interpreter is taken down; by now all is done.
    sys.stdout.flush()
    os._exit(0)
