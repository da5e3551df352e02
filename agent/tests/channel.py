"""Makes small conda channels of real packages, for a real solver and a real installer."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SUBDIRS = ("noarch", "linux-64", "linux-aarch64")


@dataclass(frozen=True)
class Made:
    """One package: its files by path, and what it depends on. A package of kind `python` has its files under `site-packages/`."""

    name: str
    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    depends: Sequence[str] = ()
    kind: str = "generic"


def make(folder: Path, made: Sequence[Made]) -> str:
    """Write the channel; its address."""
    for subdir in SUBDIRS:
        (folder / subdir).mkdir(parents=True, exist_ok=True)
    records = {}
    for package in made:
        index = {
            "name": package.name, "version": package.version, "build": "0", "build_number": 0, "depends": list(package.depends),
            "subdir": "noarch", "noarch": package.kind, "timestamp": 1_700_000_000_000,
        }  # fmt: skip
        paths = [
            {
                "_path": path,
                "path_type": "hardlink",
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "size_in_bytes": len(text.encode()),
            }
            for path, text in package.files.items()
        ]
        contents = {
            **package.files,
            "info/index.json": json.dumps(index),
            "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
            "info/files": "".join(f"{path}\n" for path in package.files),
        }
        file = folder / "noarch" / f"{package.name}-{package.version}-0.tar.bz2"
        with tarfile.open(file, "w:bz2") as archive:
            for name, text in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        data = file.read_bytes()
        records[file.name] = {
            **index, "sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest(), "size": len(data)
        }  # fmt: skip
    for subdir in SUBDIRS:
        described = {"info": {"subdir": subdir}, "packages": records if subdir == "noarch" else {}, "packages.conda": {}}
        (folder / subdir / "repodata.json").write_text(json.dumps(described))
    return f"file://{folder}"
