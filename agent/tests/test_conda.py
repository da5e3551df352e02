"""The conda installer puts every listed package into the prefix, from whatever channel it is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import channel
from test_packaging import AGENT, LISTED


def test_every_listed_package_is_installed(tmp_path: Path) -> None:
    made = [channel.Made(package.name, package.version, {f"share/{package.name}.txt": package.name}) for package in LISTED]
    address = channel.make(tmp_path / "channel", made)
    prefix = tmp_path / "prefix"
    subprocess.run(
        [sys.executable, AGENT / "packaging/conda.py", AGENT / "environment.yml", prefix, address],
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "RATTLER_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert {file.stem for file in (prefix / "share").iterdir()} == {package.name for package in LISTED}
