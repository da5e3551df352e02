"""Numbers as JSON can carry them."""

from __future__ import annotations

import math
from collections.abc import Iterable


def finite(values: Iterable[float]) -> list[float | None]:
    """The values as a list, with None (JSON null) for NaN and infinities, which JSON doesn't have."""
    return [value if math.isfinite(value) else None for value in values]
