"""What verification found: four verdicts, the first bad index, and the findings.

Verdicts
* integrity: nothing that is here was changed, reordered or added since the checkpoint was signed.
* completeness: every leaf, body and sealed part that should be here is here, or a later leaf says why not.
* freshness: the last leaf is young enough; only if a limit was asked for.
* coverage: source messages became evidence. Thin for now, and labelled so.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from schemaseal.tlog.strict import printable

FINDINGS_PER_CODE = 20  # kept in full; beyond that they are only counted

INTEGRITY = "integrity"
COMPLETENESS = "completeness"
FRESHNESS = "freshness"
COVERAGE = "coverage"
NOTICE = "notice"  # told, but failing no verdict


class Status(StrEnum):
    OK = "ok"
    LIMITED = "limited"  # nothing wrong was found, but it proves less than the name says; the text says how
    FAILED = "failed"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Finding:
    """`verdict` is what it counts against; `index` the leaf concerned, if one can be named."""

    verdict: str
    code: str
    index: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    text: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """One numbered step: what it proves, and whether it was passed (None: not applicable or not asked)."""

    number: int
    name: str
    proves: str
    passed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`size` and `root` (hex) are the checkpoint's, None where it could not be read.

    `counts` tells findings by code, all of them; `findings` holds the first ones of each code.
    `first_bad_index` is the smallest index of a finding that fails a verdict.
    """

    origin: str | None
    size: int | None
    root: str | None
    key_source: str
    signed_by: tuple[str, ...]
    integrity: Verdict
    completeness: Verdict
    freshness: Verdict
    coverage: Verdict
    first_bad_index: int | None
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    leaves: int
    bodies: int
    sealed: int
    erased: int
    last_at: str | None
    steps: tuple[StepResult, ...]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return {
            INTEGRITY: self.integrity,
            COMPLETENESS: self.completeness,
            FRESHNESS: self.freshness,
            COVERAGE: self.coverage,
        }

    @property
    def ok(self) -> bool:
        """No verdict failed. Look at the verdicts for what that proves."""
        return all(verdict.status is not Status.FAILED for verdict in self.verdicts.values())

    def to_json(self) -> str:
        """One JSON object, ASCII, keys as the fields here plus `ok`."""
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=2)


@dataclass(slots=True)
class Findings:
    """Collects findings in bounded memory."""

    counts: dict[str, int] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)  # by verdict
    first_bad_index: int | None = None
    _kept: list[Finding] = field(default_factory=list)

    def add(self, verdict: str, code: str, text: str, index: int | None = None) -> None:
        seen = self.counts.get(code, 0)
        self.counts[code] = seen + 1
        self.failing[verdict] = self.failing.get(verdict, 0) + 1
        if seen < FINDINGS_PER_CODE:
            self._kept.append(Finding(verdict, code, index, text))
        if verdict != NOTICE and index is not None:
            known = self.first_bad_index
            self.first_bad_index = index if known is None else min(known, index)

    def failed(self, verdict: str) -> int:
        """How many findings count against a verdict."""
        return self.failing.get(verdict, 0)

    def listed(self) -> tuple[Finding, ...]:
        """The findings kept: those with an index in its order, then the others."""
        return tuple(sorted(self._kept, key=lambda item: (item.index is None, item.index or 0)))


def render(report: Report) -> str:
    """The report for a terminal; plain ASCII where it quotes the export."""
    origin = "(unreadable)" if report.origin is None else printable(report.origin, 200)
    signed_by = ", ".join(printable(key, 200) for key in report.signed_by) or "no signature holds"
    counted = f"{report.leaves} leaves, {report.bodies} bodies, {report.sealed} sealed parts"
    lines = [
        f"log         {origin}",
        f"checkpoint  size {report.size}, root {report.root}",
        f"key         {report.key_source}: {signed_by}",
        f"read        {counted}; {report.erased} erased; last leaf {report.last_at}",
        "",
    ]
    marks: dict[bool | None, str] = {True: "pass", False: "FAIL", None: "-"}
    lines += [f"{s.number:>2}. {marks[s.passed]:<4}  {s.name}: {s.proves}" for s in report.steps]
    lines.append("")
    lines += [f"{name:<13}{v.status.value.upper():<10}{v.text}" for name, v in report.verdicts.items()]
    if report.first_bad_index is not None:
        lines += ["", f"first bad index: {report.first_bad_index}"]
    if report.findings:
        lines += ["", "findings:"]
        for item in report.findings:
            place = "" if item.index is None else f" at index {item.index}"
            lines.append(f"  [{item.verdict}] {item.code}{place}: {item.text}")
        hidden = sum(report.counts.values()) - len(report.findings)
        if hidden:
            lines.append(f"  and {hidden} more of these codes")
    return "\n".join(lines) + "\n"
