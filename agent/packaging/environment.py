"""Reads environment.yml for whoever needs its packages in another form.

environment.py FILE requirements   the packages as pip requirements
environment.py FILE specs          the packages as conda specs
environment.py FILE check          compare with what is installed where this runs; exit status 1 if it differs
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path

NOT_FROM_PIP = {"python", "git", "openssh"}
"""Packages that come with the base system where pip installs the others."""

PIP_NAMES: dict[str, str] = {}
"""Names on the Python package index that differ from conda-forge's."""


@dataclass(frozen=True)
class Package:
    """One line of the list."""

    name: str
    operator: str
    version: str

    @property
    def conda(self) -> str:
        """As conda writes it."""
        return f"{self.name}{self.operator}{self.version}"

    @property
    def requirement(self) -> str:
        """As pip writes it."""
        return f"{PIP_NAMES.get(self.name, self.name)}{'==' if self.operator == '=' else self.operator}{self.version}"


def packages(text: str) -> list[Package]:
    """The dependencies of an environment.yml that holds only plain lines `- name=version`."""
    found = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#")[0].rstrip()
        if not content.startswith((" ", "-")):
            inside = content == "dependencies:" if content else inside
            continue
        if not inside or not content.strip():
            continue
        match = re.fullmatch(r"\s*- ([a-z0-9_.-]+)(=|>=)([0-9][0-9a-z.]*)", content)
        if match is None:
            raise ValueError(f"line {number} is no pinned package: write `- name=version`")
        found.append(Package(*match.groups()))
    return found


def problems(listed: list[Package]) -> list[str]:
    """What differs between the list and this Python's packages."""
    found = []
    for package in listed:
        if package.name == "python":
            if not ".".join(map(str, sys.version_info[:3])).startswith(f"{package.version}."):
                found.append(f"python is {sys.version.split()[0]}, not {package.version}")
        elif package.name not in NOT_FROM_PIP:
            name = PIP_NAMES.get(package.name, package.name)
            try:
                installed = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                installed = "missing"
            if installed != package.version:
                found.append(f"{name} is {installed}, not {package.version}")
    return found


def main() -> int:
    """Do what the arguments say."""
    file, form = sys.argv[1:]
    listed = packages(Path(file).read_text())
    if form == "requirements":
        print("\n".join(package.requirement for package in listed if package.name not in NOT_FROM_PIP))
    elif form == "specs":
        print("\n".join(package.conda for package in listed))
    elif form == "check":
        found = problems(listed)
        print("\n".join(found) or "the environment is as listed", file=sys.stderr)
        return 1 if found else 0
    else:
        raise SystemExit(f"unknown form {form}: write requirements, specs or check")
    return 0


if __name__ == "__main__":
    sys.exit(main())
