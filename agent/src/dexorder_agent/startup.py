"""Shortens the time from the start of the process to the first answer. Imported before anything large.

Measured, most of that time went into packages that this process never uses (the SDK's client, command line tools) and into schemas of
message types that no request has asked for yet. Both are put off until they are needed; nothing is changed in what they do.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any


def prepare() -> None:
    """Put off what can wait. Garbage is not collected until `finish`: during imports there is none."""
    gc.disable()
    # Their __init__ modules import everything that the packages have, for users who import names from them directly. `uvicorn.main` is
    # imported by the SSE library for one class that is defined elsewhere; it would bring a command line.
    uvicorn = {"Config": "uvicorn.config", "Server": "uvicorn.server"}
    _load_on_demand("mcp", {})
    _load_on_demand("uvicorn", uvicorn)
    _load_on_demand("uvicorn.main", uvicorn)
    _load_on_demand("httpx2", {})
    _build_schemas_on_demand()


def finish() -> None:
    """Back to normal, with what was imported set apart from what is collected."""
    gc.freeze()
    gc.enable()


def _load_on_demand(name: str, elsewhere: Mapping[str, str]) -> None:
    """Register a module without running its code, which runs when a name is asked for that isn't one of those defined elsewhere."""
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    loader = spec.loader
    module = importlib.util.module_from_spec(spec)

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute in elsewhere:
            return getattr(importlib.import_module(elsewhere[attribute]), attribute)
        module.__dict__.pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, attribute)

    module.__dict__["__getattr__"] = load
    sys.modules[name] = module


def _build_schemas_on_demand() -> None:
    """Make pydantic's `defer_build` the default. It has no public switch for all models; without this one the start is only slower."""
    from pydantic import TypeAdapter
    from pydantic._internal import _config

    if "defer_build" in getattr(_config, "config_defaults", {}) and hasattr(TypeAdapter, "_defer_build"):
        _config.config_defaults["defer_build"] = True
        TypeAdapter._defer_build = property(lambda _: True)  # type: ignore[assignment, method-assign]
