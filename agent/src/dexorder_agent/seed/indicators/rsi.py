"""Relative strength index (0 to 100) with Wilder's smoothing of gains and losses."""

from typing import Annotated

import numpy as np

OUTPUTS = ("rsi",)


def compute(close: np.ndarray, *, period: Annotated[int, (2, 500)] = 14) -> np.ndarray:
    rsi = np.full(len(close), np.nan)
    if len(close) <= period:
        return rsi
    change = np.diff(close)
    gains, losses = np.maximum(change, 0.0), np.maximum(-change, 0.0)
    gain, loss = float(gains[:period].mean()), float(losses[:period].mean())
    rsi[period] = _strength(gain, loss)
    later = zip(gains[period:].tolist(), losses[period:].tolist(), strict=True)
    for i, (up, down) in enumerate(later, start=period + 1):
        gain = (gain * (period - 1) + up) / period
        loss = (loss * (period - 1) + down) / period
        rsi[i] = _strength(gain, loss)
    return rsi


def _strength(gain: float, loss: float) -> float:
    total = gain + loss
    return 100.0 * gain / total if total > 1e-14 else 0.0
