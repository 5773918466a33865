"""Faust's app with what it lacks for at-least-once delivery. See `infra/adr/0002-seek-again-after-recovery.md`."""

from __future__ import annotations

import asyncio

import faust


class App(faust.App):  # type: ignore[misc]  # Faust's annotations are left out
    """Seeks to the committed offsets once more after each recovery."""

    settled = False
    _seeking: asyncio.Task[None] | None = None

    def on_rebalance_start(self) -> None:
        self.settled = False
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        """After the flow was resumed, which empties the agents' queues.

        Faust lets partitions be fetched before it seeks and resumes. What was fetched in between is thrown out
        of the queue while the position stays behind it: such an event would wait for the next restart. After a
        second seek it is fetched again; what was processed already is a repeat, and changes nothing.
        """
        super().on_rebalance_end()
        self._seeking = asyncio.create_task(self._seek_again())

    async def _seek_again(self) -> None:
        try:
            committed = await self.consumer.seek_to_committed()
            ours = {tp: at for tp, at in committed.items() if tp.topic not in self.tables.changelog_topics}
            # Without a committed offset that call leaves a partition where it stands.
            first = await self.consumer.earliest_offsets(*[tp for tp, at in ours.items() if not at])
            await self.consumer.seek_wait({tp: at or first[tp] for tp, at in ours.items()})
        except Exception as error:  # noqa: BLE001 - without it events may hang, so the worker must not go on
            await self.crash(error)
        else:
            self.settled = True
