"""Makes small conda channels of real packages, for a real solver and a real installer."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SUBDIRS = ("noarch", "linux-64", "linux-aarch64")


@dataclass(frozen=True)
class Made:
    """One package: its files and symbolic links by path, and what it depends on. One of kind `python` has its files under
    `site-packages/`."""

    name: str
    version: str
    files: Mapping[str, str | Path] = field(default_factory=dict)
    depends: Sequence[str] = ()
    kind: str = "generic"
    links: Mapping[str, str] = field(default_factory=dict)


def make(folder: Path, made: Sequence[Made]) -> str:
    """Write the channel; its address."""
    for subdir in SUBDIRS:
        (folder / subdir).mkdir(parents=True, exist_ok=True)
    records = {}
    for package in made:
        name = f"{package.name}-{package.version}-0"
        index = {
            "name": package.name, "version": package.version, "build": "0", "build_number": 0, "depends": list(package.depends),
            "subdir": "noarch", "noarch": package.kind, "timestamp": 1_700_000_000_000,
        }  # fmt: skip
        contents = {path: _bytes(content) for path, content in package.files.items()}
        paths = [_described(path, "hardlink", content) for path, content in contents.items()]
        paths += [_described(path, "softlink", b"") for path in package.links]
        info = {"info/index.json": index, "info/paths.json": {"paths": paths, "paths_version": 1}}
        file = folder / "noarch" / f"{name}.conda"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
            archive.writestr(f"pkg-{name}.tar.zst", _packed(contents.items(), package.links))
            archive.writestr(f"info-{name}.tar.zst", _packed(((path, json.dumps(value).encode()) for path, value in info.items()), {}))
        data = file.read_bytes()
        sums = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest(), "size": len(data)}
        records[file.name] = {**index, **sums}
    for subdir in SUBDIRS:
        described = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": records if subdir == "noarch" else {}}
        (folder / subdir / "repodata.json").write_text(json.dumps(described))
    return f"file://{folder}"


def _bytes(content: str | Path) -> bytes:
    return content.encode() if isinstance(content, str) else content.read_bytes()


def _described(path: str, kind: str, content: bytes) -> dict[str, object]:
    return {"_path": path, "path_type": kind, "sha256": hashlib.sha256(content).hexdigest(), "size_in_bytes": len(content)}


def _packed(contents: Iterable[tuple[str, bytes]], links: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in contents:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
        for path, target in links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return zstandard.compress(packed.getvalue(), 1)


def of_this_python() -> Made:
    """A package `python` that is the interpreter which runs here, without the packages that it has here."""
    interpreter = str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
    home = f"home = {Path(interpreter).parent}\ninclude-system-site-packages = false\n"
    return Made("python", sys.version.split()[0], {"pyvenv.cfg": home}, links={"bin/python": interpreter})


def of_wheels(names: Iterable[str]) -> list[Made]:
    """Packages of the wheels that are installed here, with all that they require."""
    made: dict[str, Made] = {}
    todo = [Requirement(name) for name in names]
    while todo:
        asked = todo.pop()
        name = canonicalize_name(asked.name)
        wheel = importlib.metadata.distribution(name)
        wanted = [Requirement(line) for line in wheel.requires or ()]
        wanted = [one for one in wanted if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in ["", *asked.extras])]
        depends = {f"{canonicalize_name(one.name)} {one.specifier}".strip() for one in wanted}
        before = made.get(name)
        if before is not None and depends <= set(before.depends):
            continue
        files = {f"site-packages/{file}": Path(str(file.locate())) for file in wheel.files or () if _is_of_the_package(str(file))}
        made[name] = Made(name, wheel.version, files, sorted({"python"} | depends | set(before.depends if before else ())), "python")
        todo += wanted
    return list(made.values())


def _is_of_the_package(path: str) -> bool:
    return not path.startswith("..") and not path.endswith((".pyc", ".pyi")) and "/tests/" not in path
