"""One list of packages, whatever installs them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

AGENT = Path(__file__).parent.parent
sys.path.insert(0, str(AGENT / "packaging"))

from environment import NOT_FROM_PIP, Package, packages, problems  # noqa: E402

LISTED = packages((AGENT / "environment.yml").read_text())


def test_pip_and_conda_name_the_same_packages_in_the_same_versions() -> None:
    conda = dict(re.split(r">=|=", package.conda, maxsplit=1) for package in LISTED if package.name not in NOT_FROM_PIP)
    pip = dict(package.requirement.split("==") for package in LISTED if package.name not in NOT_FROM_PIP)
    assert conda == pip
    assert len(pip) >= 3


def test_every_dependency_of_the_project_is_listed() -> None:
    project = tomllib.loads((AGENT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]}
    assert wanted <= {package.name for package in LISTED}


def test_this_environment_is_the_listed_one() -> None:
    assert problems([package for package in LISTED if package.name != "python"]) == []
    assert problems([Package("numpy", "=", "1.0")]) == [f"numpy is {problems_version('numpy')}, not 1.0"]


def problems_version(name: str) -> str:
    return next(package.version for package in LISTED if package.name == name)


def test_a_line_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        packages("dependencies:\n  - numpy\n")


def test_the_seed_is_part_of_the_package(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, AGENT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = subprocess.run([sys.executable, "-m", "zipfile", "-l", wheel], check=True, capture_output=True, text=True).stdout
    for part in ("seed/indicators/rsi.py", "seed/data/ibm-daily.csv", "seed/gitignore", "seed/context/system-prompt.md"):
        assert f"dexorder_agent/{part}" in names
