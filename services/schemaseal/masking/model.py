"""The values that go in and out of the room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class LimitError(Exception):
    """A body costs more than the rules allow; it becomes a stub. `reason` is a constant, never content."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Span:
    """A sensitive value: byte offsets in the raw body (`find_text`: in the text), end exclusive."""

    start: int
    end: int
    entity: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class MaskRules:
    """Limits. All count work instead of time, so that the same body always gives the same bytes."""

    max_body_bytes: int = 8 * 1024 * 1024
    max_hits: int = 5000
    max_nesting: int = 5
    max_nested_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MaskKeys:
    """The key of one tenant and epoch, and its public name."""

    kid: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """How often an entity was hidden at a place. `pointer` is a JSON pointer, itself masked; '' outside JSON.

    The pointer of a value in a JSON string goes on after '#': `/schema#/properties/ssn/default`.
    """

    entity: str
    pointer: str
    count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was hidden, without the values. `stub` is the reason why nothing of the body is left, if so."""

    entries: tuple[Entry, ...]
    hidden: int
    stub: str | None = None


@dataclass(frozen=True, slots=True)
class Masked:
    """The body that may be written, and what was hidden in it."""

    body: bytes
    manifest: Manifest


class Hit(NamedTuple):
    """A value found: offsets in the text searched; `value` is its folded text, `quotes` what a number needs."""

    start: int
    end: int
    entity: str
    value: str
    pointer: str = ""
    quotes: str = ""
