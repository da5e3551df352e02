"""Trend following: long while the fast moving average is above the slow one, otherwise out of the market."""

from typing import Annotated

import numpy as np
from indicators.sma import compute as sma


def signals(
    close: np.ndarray,
    *,
    fast: Annotated[int, (2, 500)] = 20,
    slow: Annotated[int, (2, 500)] = 50,
) -> np.ndarray:
    # Comparisons with NaN, before there is an average, are false: no position.
    return np.where(sma(close, period=fast) > sma(close, period=slow), 1.0, 0.0)
