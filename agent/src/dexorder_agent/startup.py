"""Shortens the time from the start of the process to the first answer. Imported before anything large.

Measured, most of that time went into packages that this process never uses (the SDK's client, its OAuth server, command line tools) and
into message types of revisions that no request has asked for yet. Both are put off until they are needed; nothing is changed in what
they do.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

PACKAGES = {
    # Their __init__ modules import everything that the packages have, for users who import names from them directly. `uvicorn.main` is
    # imported by the SSE library for one class that is defined elsewhere; it would bring a command line.
    "mcp": {},
    "mcp.server": {},
    "mcp.server.mcpserver": {},
    "uvicorn": {"Config": "uvicorn.config", "Server": "uvicorn.server"},
    "uvicorn.main": {"Config": "uvicorn.config", "Server": "uvicorn.server"},
    "httpx2": {},
}
NAMED = (
    # Other modules import classes and functions from these by name, for servers that check tokens themselves and for clients of the
    # older revisions.
    "mcp.server.auth.middleware.auth_context",
    "mcp.server.auth.middleware.bearer_auth",
    "mcp.server.auth.provider",
    "mcp.server.auth.routes",
    "mcp.server.auth.settings",
    "mcp_types._v2025_11_25",
)


def prepare() -> None:
    """Put off what can wait. Garbage is not collected until `finish`: during imports there is none."""
    gc.disable()
    # Looking for plugins reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for name, elsewhere in PACKAGES.items():
        _load_on_demand(name, elsewhere)
    _build_schemas_on_demand()
    # To find a module imports the packages that it is in.
    for name in NAMED:
        _load_by_name(name)


def finish() -> None:
    """Back to normal, with what was imported set apart from what is collected."""
    gc.freeze()
    gc.enable()


def _module(name: str) -> tuple[ModuleType, Any] | None:
    """A module that is registered but whose code has not run, with its loader."""
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module, spec.loader


def _load_on_demand(name: str, elsewhere: Mapping[str, str]) -> None:
    """Register a module without running its code, which runs when a name is asked for that isn't one of those defined elsewhere."""
    found = _module(name)
    if found is None:
        return
    module, loader = found

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute in elsewhere:
            return getattr(importlib.import_module(elsewhere[attribute]), attribute)
        module.__dict__.pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, attribute)

    module.__dict__["__getattr__"] = load


class _Named(type):
    """A class that stands for a class or function of a module until something is done with it."""

    def __getattr__(cls, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(cls.stands_for(), attribute)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return cls.stands_for()(*arguments, **named)

    def __instancecheck__(cls, instance: Any) -> bool:
        # Of a module whose code has not run there are no instances.
        return cls.loaded() and isinstance(instance, cls.stands_for())


def _load_by_name(name: str) -> None:
    """Register a module that gives a stand-in for whatever is imported from it; its code runs when a stand-in is used."""
    found = _module(name)
    if found is None:
        return
    module, loader = found

    def loaded() -> bool:
        return "__getattr__" not in module.__dict__

    def stand_in(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def stands_for() -> Any:
            if not loaded():
                del module.__dict__["__getattr__"]
                loader.exec_module(module)
            return module.__dict__[attribute]

        def schema(_: Any, handler: Any) -> Any:
            return handler(stands_for())

        members = {
            "stands_for": staticmethod(stands_for),
            "loaded": staticmethod(loaded),
            "__get_pydantic_core_schema__": classmethod(lambda _, source, handler: schema(source, handler)),
        }
        made = type.__new__(_Named, attribute, (), members)
        module.__dict__.setdefault(attribute, made)
        return made

    module.__dict__["__getattr__"] = stand_in


def _build_schemas_on_demand() -> None:
    """Make pydantic's `defer_build` the default. It has no public switch for all models; without this one the start is only slower."""
    from pydantic import BaseModel, TypeAdapter
    from pydantic._internal import _config

    if "defer_build" not in getattr(_config, "config_defaults", {}) or not hasattr(TypeAdapter, "_defer_build"):
        return
    _config.config_defaults["defer_build"] = True
    TypeAdapter._defer_build = property(lambda _: True)  # type: ignore[assignment, method-assign]
    # The message types ask to be built as soon as they are complete; they are built when they are used as well.
    rebuild = BaseModel.__dict__["model_rebuild"]
    BaseModel.model_rebuild = classmethod(lambda cls, **_: None)  # type: ignore[assignment, method-assign]
    try:
        import mcp_types  # noqa: F401
    finally:
        BaseModel.model_rebuild = rebuild  # type: ignore[method-assign]
