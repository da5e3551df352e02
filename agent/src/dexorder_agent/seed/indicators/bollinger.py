"""Bollinger bands: the simple moving average and the lines some standard deviations above and below it."""

from typing import Annotated

import numpy as np

OUTPUTS = ("upper", "middle", "lower")


def compute(
    close: np.ndarray,
    *,
    period: Annotated[int, (2, 500)] = 20,
    deviations_up: Annotated[float, (0.0, 10.0)] = 2.0,
    deviations_down: Annotated[float, (0.0, 10.0)] = 2.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    middle = np.full(len(close), np.nan)
    deviation = np.full(len(close), np.nan)
    if len(close) >= period:
        windows = np.lib.stride_tricks.sliding_window_view(close, period)
        middle[period - 1 :] = windows.mean(axis=1)
        deviation[period - 1 :] = windows.std(axis=1)
    return middle + deviations_up * deviation, middle, middle - deviations_down * deviation
