"""Refusals are recorded one by one up to a rate and counted beyond it, so that nobody can flood the store.

Whoever is refused gets the answer only when the record that accounts for it is durable, also when that is
the count of its second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

SingleAct = Callable[[], Awaitable[None]]
CountAct = Callable[[Counter[str]], Awaitable[None]]


class Denials:
    """`count(reasons)` writes one act for a whole second; both raise `NotRecorded`."""

    def __init__(
        self,
        count: CountAct,
        *,
        rate: int = 50,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._count, self._rate, self._sleep = count, rate, sleep
        self._now = now or asyncio.get_running_loop().time
        self._second = -1
        self._in_second = 0
        self._reasons: Counter[str] = Counter()
        self._window: asyncio.Task[None] | None = None

    async def record(self, reason: str, single: SingleAct) -> None:
        """Durable on return: alone while there is room in this second, in its count otherwise."""
        second = int(self._now())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second <= self._rate:
            await single()
            return
        self._reasons[reason] += 1
        if self._window is None:
            self._window = asyncio.create_task(self._close())
        await asyncio.shield(self._window)

    async def _close(self) -> None:
        await self._sleep(1.0)
        # From here on, newcomers open a window of their own.
        reasons, self._reasons, self._window = self._reasons, Counter(), None
        await self._count(reasons)
