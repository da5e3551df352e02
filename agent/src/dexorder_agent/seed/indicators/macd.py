"""Moving average convergence divergence: fast minus slow average, its signal line and their difference."""

from typing import Annotated

import numpy as np

OUTPUTS = ("macd", "signal", "histogram")


def compute(
    close: np.ndarray,
    *,
    fast: Annotated[int, (2, 500)] = 12,
    slow: Annotated[int, (2, 500)] = 26,
    signal: Annotated[int, (1, 500)] = 9,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fast, slow = min(fast, slow), max(fast, slow)
    # Both averages start at the same bar, so that their difference has no jump.
    line = _ema(close, fast, slow - 1) - _ema(close, slow, slow - 1)
    signal_line = _ema(line, signal, slow - 1 + signal - 1)
    line[np.isnan(signal_line)] = np.nan
    return line, signal_line, line - signal_line


def _ema(values: np.ndarray, period: int, first: int) -> np.ndarray:
    """An average whose first value, at position `first`, is the mean of the `period` values up to it."""
    ema = np.full(len(values), np.nan)
    if len(values) <= first:
        return ema
    weight = 2.0 / (period + 1)
    value = float(values[first - period + 1 : first + 1].mean())
    ema[first] = value
    for i, item in enumerate(values[first + 1 :].tolist(), start=first + 1):
        value += (item - value) * weight
        ema[i] = value
    return ema
