"""Ids that sort by the time they were made, so that the newest run or failure is also the last."""

from __future__ import annotations

import secrets

from speclab.clock import Clock


class Ids:
    """Makes UUIDs of version 7 (RFC 9562), each greater than the one before even within a millisecond."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def new(self) -> str:
        """The next id, as text.

        The 12 bits after the milliseconds are a counter (RFC 9562, 6.2, method 1) that carries over into the
        milliseconds, so a clock that stands still or is set back never makes an id smaller.
        """
        milliseconds = int(self._clock.now().timestamp() * 1000)
        self._last = max(self._last + 1, milliseconds << 12)
        time, counter = self._last >> 12, self._last & 0xFFF
        random = secrets.randbits(62)
        return (
            f"{time >> 16:08x}-{time & 0xFFFF:04x}-7{counter:03x}-"
            f"{0b10 << 14 | random >> 48:04x}-{random & 0xFFFFFFFFFFFF:012x}"
        )
