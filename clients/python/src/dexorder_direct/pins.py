"""The thumbprints that a user has compared and keeps, in a file of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dexorder_direct.errors import DirectError


def default_file() -> Path:
    """Where pins are kept if nothing else is said."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "dexorder" / "direct-pins.json"


def read(file: Path, url: str) -> list[str]:
    """The pins of one workspace."""
    return _all(file).get(_name(url), [])


def add(file: Path, url: str, thumbprint: str) -> None:
    """Keep a pin. The one before stays: a key is taken for some minutes after it was changed."""
    known = _all(file)
    before = [pin for pin in known.get(_name(url), []) if pin != thumbprint]
    known[_name(url)] = [thumbprint, *before[:1]]
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(known, indent=2) + "\n")
    new.replace(file)


def _name(url: str) -> str:
    return url.rstrip("/").removesuffix("/mcp")


def _all(file: Path) -> dict[str, list[str]]:
    try:
        known = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DirectError(f"the pins in {file} can't be read: {error}") from error
    if not isinstance(known, dict):
        raise DirectError(f"the pins in {file} are no JSON object: correct or remove it")
    return known
