"""Who waits for which change: fed by every record of `changes.status`, whoever it is for.

A watch is opened before the change is published, so no state can be missed. A request that attached to
another change hears of it through that change's `waiters`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from schemaseal.contracts import codec
from schemaseal.contracts.codec import ContractError
from schemaseal.contracts.events import ChangeStatus
from schemaseal.contracts.records import Record
from schemaseal.ingress.answers import FINAL, PENDING

_KEPT = 20_000


class Watch:
    """One waiting request."""

    def __init__(self) -> None:
        self.status: ChangeStatus | None = None
        self._changed = asyncio.Event()

    def tell(self, status: ChangeStatus) -> None:
        self.status = status
        self._changed.set()

    async def hold(self, *, wait: float, grace: float) -> ChangeStatus | None:
        """The last state heard: a final one as soon as there is one, else after the wait.

        `wait` (s) is how long the client waits for people. Machines get at least `grace` (s): a change that
        needs nobody is answered properly even to a client that does not want to wait.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        while True:
            self._changed.clear()
            if self.status is not None and self.status.state in FINAL:
                return self.status
            pending = self.status is not None and self.status.state == PENDING
            left = start + (wait if pending else max(wait, grace)) - loop.time()
            if left <= 0:
                return self.status
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue


class StatusHub:
    """Latest states, and watches by request id."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._latest: OrderedDict[str, ChangeStatus] = OrderedDict()

    @contextmanager
    def watch(self, request_id: str) -> Iterator[Watch]:
        watch = Watch()
        self._watches[request_id] = watch
        try:
            yield watch
        finally:
            del self._watches[request_id]

    def tell(self, status: ChangeStatus) -> None:
        for request_id in (status.change_id, *status.waiters):
            self._latest[request_id] = status
            self._latest.move_to_end(request_id)
            watch = self._watches.get(request_id)
            if watch is not None:
                watch.tell(status)
        while len(self._latest) > _KEPT:
            self._latest.popitem(last=False)

    def latest(self, request_id: str) -> ChangeStatus | None:
        return self._latest.get(request_id)

    @property
    def waiting(self) -> int:
        return len(self._watches)

    async def follow(self, records: AsyncIterator[Record]) -> None:
        """Feeds the hub until the records end, which they do only by failure."""
        async for record in records:
            try:
                self.tell(codec.decode(ChangeStatus, record.value))
            except ContractError:
                continue  # not ours to quarantine: streams wrote it, and nobody can wait for it
