"""What the steps of the demo share: the story so far, and an assertion that is a sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schemaseal.devstack.story import Stack

SUBJECT = "orders-value"


class DemoFailed(AssertionError):  # noqa: N818 - named for what it is
    """One assertion of the story did not hold; the text is the sentence for the reader."""


@dataclass(slots=True)
class Story:
    """What later steps know of earlier ones."""

    stack: Stack
    ids: dict[str, int] = field(default_factory=dict)
    changes: dict[str, str] = field(default_factory=dict)


def check(held: bool, sentence: str) -> str:
    """The sentence, if it holds."""
    if not held:
        raise DemoFailed(f"this did not hold: {sentence}")
    return sentence


def why(result: Any) -> str:
    return "" if result.returncode == 0 else f": {result.stdout}{result.stderr}"
