"""A Faust table whose writes can be awaited: durable means the changelog record was acknowledged."""

from __future__ import annotations

from typing import Any

import faust
from faust.types import FutureMessage

from schemaseal.contracts import codec
from schemaseal.contracts.events import SubjectState


class DurableTable(faust.Table):  # type: ignore[misc]  # Faust ships no type information
    """`put` returns once the broker has the changelog record.

    A plain `table[key] = value` only queues it, and the event could be acknowledged first: a crash between
    would lose the state while the event never comes again.
    """

    _pending: list[FutureMessage[Any]] | None = None

    def send_changelog(self, *args: Any, **kwargs: Any) -> FutureMessage[Any]:
        future = super().send_changelog(*args, **kwargs)
        if self._pending is not None:
            self._pending.append(future)
        return future

    async def put(self, key: bytes, state: SubjectState) -> None:
        """Write (or delete, when the state is empty) and wait for the changelog's acknowledgement."""
        self._pending = []
        try:
            if state.changes:
                self[key] = codec.encode(state)
            elif key in self:
                del self[key]
            pending = self._pending
        finally:
            self._pending = None
        for future in pending:
            await future

    def load(self, key: bytes) -> SubjectState:
        """The subject's state; an empty one when nothing is known."""
        raw = self.get(key)
        return SubjectState() if raw is None else codec.decode(SubjectState, raw)
