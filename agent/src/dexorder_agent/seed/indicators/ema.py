"""Exponential moving average, started with the simple average of the first `period` values."""

from typing import Annotated

import numpy as np

OUTPUTS = ("ema",)


def compute(close: np.ndarray, *, period: Annotated[int, (2, 500)] = 20) -> np.ndarray:
    ema = np.full(len(close), np.nan)
    if len(close) < period:
        return ema
    weight = 2.0 / (period + 1)
    value = float(close[:period].mean())
    ema[period - 1] = value
    for i, price in enumerate(close[period:].tolist(), start=period):
        value += (price - value) * weight
        ema[i] = value
    return ema
