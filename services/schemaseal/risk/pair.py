"""A node of old and a node of new, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ANNOTATIONS = frozenset(
    {"title", "description", "examples", "default", "$comment", "deprecated", "readOnly", "writeOnly"}
)
"""Keywords that describe and refuse nothing, in every dialect known here."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A node of old and a node of new that apply at the same place of a document."""

    old: Any
    new: Any
    at_old: str = ""
    at_new: str = ""
    path: str = ""
    depth: int = 0
    via_ref: bool = False

    def child(
        self, old: Any, new: Any, below: str, step: str, *, at_old: str | None = None, at_new: str | None = None
    ) -> Pair:
        """The pair one step down; pointers are those of `below` unless a side stands elsewhere."""
        return Pair(
            old,
            new,
            at_old or f"{self.at_old}/{below}",
            at_new or f"{self.at_new}/{below}",
            self.path + step,
            self.depth + 1,
            self.via_ref,
        )


def accepts_all(node: Any) -> bool:
    """True and objects that only describe: nothing is refused."""
    return node is True or (isinstance(node, dict) and not set(node) - ANNOTATIONS)
