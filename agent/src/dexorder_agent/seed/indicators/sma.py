"""Simple moving average: the mean of the last `period` values."""

from typing import Annotated

import numpy as np

OUTPUTS = ("sma",)


def compute(close: np.ndarray, *, period: Annotated[int, (2, 500)] = 20) -> np.ndarray:
    sma = np.full(len(close), np.nan)
    if len(close) >= period:
        sma[period - 1 :] = np.lib.stride_tricks.sliding_window_view(close, period).mean(axis=1)
    return sma
