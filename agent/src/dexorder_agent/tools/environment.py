"""Tools for the packages that the user's code can import."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from dexorder_agent.packages import listing
from dexorder_agent.tools.shapes import SavedShape
from dexorder_agent.tools.toolbox import FETCHES, READS, REPLACES_FETCHING, tool
from dexorder_agent.workspace import Workspace


class BasePackageShape(TypedDict):
    """A package that every workspace has."""

    name: str
    version: str


class PackageShape(TypedDict):
    """A package of the user's environment. `requested` is false if another package needs it."""

    name: str
    version: str
    build: str
    requested: bool


class PackageListShape(TypedDict):
    """`wanted` is what environment.yml asks for; `problem` says why that could not be installed."""

    base: list[BasePackageShape]
    installed: list[PackageShape]
    wanted: list[str]
    changing: bool
    problem: str | None


class PackagesChangedShape(SavedShape):
    """The environment after the change."""

    installed: list[PackageShape]


Package = Annotated[str, Field(description="A conda package, with versions if they matter, like pandas or pandas>=2.2", max_length=256)]


class EnvironmentTools:
    """List, add and remove."""

    def __init__(self, workspace: Workspace) -> None:
        self._environment = workspace.environment

    @tool("List packages", READS)
    async def list_packages(self) -> PackageListShape:
        """List the packages that indicators and strategies can import: those that every workspace has, and those added with add_package or
        in environment.yml."""
        wanted = await self._environment.wanted()
        return PackageListShape(
            base=[BasePackageShape(name=name, version=version.lstrip("=")) for name, version in sorted(self._environment.base.items())],
            installed=await self._installed(),
            wanted=list(wanted),
            changing=self._environment.busy is not None,
            problem=self._environment.problem,
        )

    @tool("Add a package", FETCHES)
    async def add_package(self, package: Package) -> PackagesChangedShape:
        """Add a conda package, so that indicators and strategies can import it. It is solved together with the packages that are there; if
        that fails, nothing is changed. The package is written to environment.yml."""
        name = listing.check(package.strip())
        change = await self._environment.change(f"Add the package {name}", lambda text: listing.add(text, package.strip()))
        return PackagesChangedShape(path=listing.FILE, commit=change.commit, changed=change.changed, installed=await self._installed())

    @tool("Remove a package", REPLACES_FETCHING)
    async def remove_package(self, name: Annotated[str, Field(description="The package's name", max_length=128)]) -> PackagesChangedShape:
        """Remove a package that was added, with what only it needed."""
        change = await self._environment.change(f"Remove the package {name}", lambda text: listing.remove(text, name))
        return PackagesChangedShape(path=listing.FILE, commit=change.commit, changed=change.changed, installed=await self._installed())

    async def _installed(self) -> list[PackageShape]:
        return [
            PackageShape(name=package.name, version=package.version, build=package.build, requested=package.requested)
            for package in await self._environment.installed()
        ]
