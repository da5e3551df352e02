"""One list of packages, whatever installs them."""

from __future__ import annotations

import re
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


def test_the_image_is_solved_by_the_listed_solver() -> None:
    (solver,) = [package.requirement for package in LISTED if package.name == "py-rattler"]
    assert f" {solver}\n" in (AGENT / "packaging/install").read_text()


def test_this_environment_is_the_listed_one() -> None:
    assert problems([package for package in LISTED if package.name != "python"]) == []
    assert problems([Package("numpy", "=", "1.0")]) == [f"numpy is {problems_version('numpy')}, not 1.0"]


def problems_version(name: str) -> str:
    return next(package.version for package in LISTED if package.name == name)


def test_a_line_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        packages("dependencies:\n  - numpy\n")
