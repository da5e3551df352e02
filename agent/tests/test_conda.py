"""The conda installer puts every listed package into the prefix, from whatever channel it is given."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

from test_packaging import AGENT, LISTED


def make_channel(folder: Path) -> str:
    """A channel of the listed packages, each with one file."""
    records = {}
    for subdir in ("noarch", "linux-64", "linux-aarch64"):
        (folder / subdir).mkdir(parents=True)
    for package in LISTED:
        content = package.name.encode()
        entry = f"share/{package.name}.txt"
        index = {
            "name": package.name, "version": package.version, "build": "0", "build_number": 0, "depends": [], "subdir": "noarch",
            "noarch": "generic", "timestamp": 1_700_000_000_000,
        }  # fmt: skip
        paths = {
            "paths": [
                {"_path": entry, "path_type": "hardlink", "sha256": hashlib.sha256(content).hexdigest(), "size_in_bytes": len(content)}
            ],
            "paths_version": 1,
        }
        file = folder / "noarch" / f"{package.name}-{package.version}-0.tar.bz2"
        with tarfile.open(file, "w:bz2") as archive:
            for name, data in (
                (entry, content),
                ("info/index.json", json.dumps(index).encode()),
                ("info/paths.json", json.dumps(paths).encode()),
                ("info/files", f"{entry}\n".encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        data = file.read_bytes()
        records[file.name] = {
            **index, "sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest(), "size": len(data)
        }  # fmt: skip
    for subdir in ("noarch", "linux-64", "linux-aarch64"):
        described = {"info": {"subdir": subdir}, "packages": records if subdir == "noarch" else {}, "packages.conda": {}}
        (folder / subdir / "repodata.json").write_text(json.dumps(described))
    return f"file://{folder}"


def test_every_listed_package_is_installed(tmp_path: Path) -> None:
    channel = make_channel(tmp_path / "channel")
    prefix = tmp_path / "prefix"
    subprocess.run(
        [sys.executable, AGENT / "packaging/conda.py", AGENT / "environment.yml", prefix, channel],
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "RATTLER_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert {file.stem for file in (prefix / "share").iterdir()} == {package.name for package in LISTED}
