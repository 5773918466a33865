"""A record to be written and a record that was read, as values: the pure parts speak in these."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from schemaseal.contracts.events import Event
from schemaseal.contracts.topics import Topic


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to send. `event_id` is derived where a repeat must be the same event."""

    topic: Topic
    key: bytes | None
    event: Event
    event_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """One message as the broker holds it. `timestamp` is the record time, UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes = field(repr=False)
    timestamp: datetime
