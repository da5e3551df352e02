"""Mean reversion: buy when the RSI falls below `oversold`, sell when it rises above `overbought`."""

from typing import Annotated

import numpy as np
from indicators.rsi import compute as rsi


def signals(
    close: np.ndarray,
    *,
    period: Annotated[int, (2, 500)] = 14,
    oversold: Annotated[float, (0.0, 50.0)] = 30.0,
    overbought: Annotated[float, (50.0, 100.0)] = 70.0,
) -> np.ndarray:
    position = np.zeros(len(close))
    held = 0.0
    for i, strength in enumerate(rsi(close, period=period).tolist()):
        if strength < oversold:
            held = 1.0
        elif strength > overbought:
            held = 0.0
        position[i] = held
    return position
