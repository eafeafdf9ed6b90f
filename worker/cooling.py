"""Lets a board that is too hot rest between training steps, before its processor slows or switches off by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from worker import board

_LOG = logging.getLogger(__name__)
HYSTERESIS_C = 5.0
"""A rest ends this far below the limit, so that it is worth its while."""
LOOK_S = 0.5
"""How often a resting worker looks whether the board has cooled."""


class Cooling:
    """The rests of one worker.

    Args:
        limit_c: rest above this temperature of the hottest zone, in degrees Celsius; None never rests.
        thermal: Linux's folder of thermal zones.
        sleep: waits for a number of seconds.

    Attributes:
        rested_s: how long training has rested so far, in seconds; heartbeats tell it.
    """

    def __init__(
        self, limit_c: float | None, thermal: Path = board.THERMAL, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._limit_c, self._thermal, self._sleep = limit_c, thermal, sleep
        self.rested_s = 0.0
        if limit_c is not None and board.temperature_c(thermal) is None:
            _LOG.warning("no zone in %s tells a temperature: training will not rest above %g °C", thermal, limit_c)

    def rest(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Wait while the board is too hot; heartbeats go on meanwhile, and a round's deadline holds.

        Args:
            wanted: asked now and then; False ends the rest.
        """
        if self._limit_c is None or not self._above(self._limit_c):
            return
        _LOG.warning("above %g °C: training rests", self._limit_c)
        while wanted() and self._above(self._limit_c - HYSTERESIS_C):
            self._sleep(LOOK_S)
            self.rested_s += LOOK_S
        _LOG.info("training goes on, after rests of %.1f s in all", self.rested_s)

    def _above(self, limit_c: float) -> bool:
        found_c = board.temperature_c(self._thermal)
        return found_c is not None and found_c > limit_c
