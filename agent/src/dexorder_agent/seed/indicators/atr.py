"""Average true range: how far a price moves in a bar, gaps included, with Wilder's smoothing."""

from typing import Annotated

import numpy as np

OUTPUTS = ("atr",)


def compute(
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    *,
    period: Annotated[int, (1, 500)] = 14,
) -> np.ndarray:
    atr = np.full(len(close), np.nan)
    if len(close) <= period:
        return atr
    before = close[:-1]
    true_range = np.maximum(high[1:], before) - np.minimum(low[1:], before)
    value = float(true_range[:period].mean())
    atr[period] = value
    for i, item in enumerate(true_range[period:].tolist(), start=period + 1):
        value = (value * (period - 1) + item) / period
        atr[i] = value
    return atr
