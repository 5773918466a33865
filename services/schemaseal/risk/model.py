"""Values of a comparison, and the table of difference codes.

A code alone says which direction it breaks, because policy sees codes and two verdicts and nothing else.
`narrows`: documents that old accepts are refused now (breaks writers of old documents); `widens`: documents are
accepted that old refused (breaks readers who rely on old); `equal`: no document changes sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["yes", "no", "unknown"]
Effect = Literal["narrows", "widens", "equal", "unknown"]
Breaks = Literal["readers", "writers", "both", "none", "unknown"]

BREAKING_CODES = frozenset(
    {
        "additional-properties-closed",
        "bound-tightened",
        "enum-added",
        "enum-value-removed",
        "property-forbidden",
        "property-added-to-open-model",
        "property-removed-from-closed-model",
        "required-added",
        "required-property-constrained",
        "schema-forbidden",
        "type-changed",
        "type-narrowed",
    }
)
"""Codes that break backward compatibility: some document that old accepts is refused by new."""

WIDENING_CODES = frozenset(
    {
        "additional-properties-opened",
        "bound-loosened",
        "enum-removed",
        "enum-value-added",
        "property-added-to-closed-model",
        "property-removed",
        "required-property-removed",
        "required-removed",
        "schema-allowed",
        "type-widened",
    }
)
"""Codes after which new accepts more than old."""

EQUAL_CODES = frozenset({"annotation-changed", "identifier-changed", "property-added", "property-unlisted"})
"""Codes that change no document's fate."""

HARMLESS_CODES = WIDENING_CODES | EQUAL_CODES
"""Codes that never break backward compatibility. A code in no table counts as not understood."""

UNKNOWN_CODES = frozenset(
    {
        "budget-exceeded",
        "dialect-changed",
        "malformed-schema",
        "remote-reference",
        "too-large",
        "unknown-dialect",
        "unparseable",
        "unresolved-reference",
        "unsupported-keyword",
    }
)
"""Codes of what was not understood. No policy can forgive one of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference between a pair of schema nodes.

    `pointer_old` and `pointer_new` are JSON pointers to the node plus `/<keyword>[/<name>]`, also on the side
    where nothing stands there. `instance_path` is where in a document the two nodes apply (`*`: any item or any
    other property). `witness` is a value for that place, boxed in a one-element tuple: valid under one node and
    not under the other (old only where writers break, new only where readers do), checked before it is given.
    """

    code: str
    keyword: str
    pointer_old: str
    pointer_new: str
    instance_path: str
    old: Any = None
    new: Any = None
    effect: Effect
    breaks: Breaks
    witness: tuple[Any] | None = None
    via_ref: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """All differences and what follows: `backward`: every document valid under old is valid under new."""

    differences: tuple[Difference, ...]
    backward: Verdict
    forward: Verdict


def consequence(code: str) -> tuple[Effect, Breaks]:
    """What a code means; anything without an entry is not understood."""
    if code == "type-changed":
        return "narrows", "both"
    if code in BREAKING_CODES:
        return "narrows", "writers"
    if code in WIDENING_CODES:
        return "widens", "readers"
    return ("equal", "none") if code in EQUAL_CODES else ("unknown", "unknown")


def conclude(differences: tuple[Difference, ...]) -> Diff:
    """Verdicts from the differences: a found break decides, then anything not understood, then yes."""
    breaks = {difference.breaks for difference in differences}

    def verdict(side: Breaks) -> Verdict:
        if breaks & {side, "both"}:
            return "no"
        return "unknown" if "unknown" in breaks else "yes"

    return Diff(differences, verdict("writers"), verdict("readers"))
