"""Keeps the idle process small."""

from __future__ import annotations

import ctypes
import gc


def settle() -> None:
    """Give back what the start has left over, once it is over."""
    gc.collect()
    # What is there now stays: later collections need not look at it.
    gc.freeze()
    libc = ctypes.CDLL(None)
    # Only glibc has it.
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
