"""Time as a port: everything that needs the time is given a clock, so tests can move it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Returns an aware UTC datetime. Never blocks, never raises."""

    def __call__(self) -> datetime: ...


def system_clock() -> datetime:
    """The machine's clock, cut to milliseconds: the resolution of all records."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def from_millis(millis: int) -> datetime:
    """A broker's record timestamp as an aware datetime."""
    return datetime.fromtimestamp(millis / 1000, UTC)


def to_millis(at: datetime) -> int:
    """Milliseconds since the epoch; exact for values of our resolution."""
    return round(at.timestamp() * 1000)
