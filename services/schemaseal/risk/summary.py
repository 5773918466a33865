"""Differences and findings as JSON that may be shown: masked, short, and honest about what was left out.

Everything that came from a payload passes the masking function: pointers, names, values, nested keys, and
numbers as text. Under a sensitive name also what no detector knows is hidden (a password looks like nothing).
Something too long is left out whole and not cut: half a value may be past recognition and still a value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from schemaseal.risk.document import plain
from schemaseal.risk.exposure import Finding, name_kind
from schemaseal.risk.judge import is_number
from schemaseal.risk.model import Diff, Difference

MAX_SHOWN = 50
MAX_BYTES = 2_000
_DATA = frozenset({"examples", "example", "default", "const", "enum", "witness"})
_HIDDEN = "(hidden: under a sensitive name)"
_DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Summary:
    """JSON-ready lists, each item with `code`; `hidden` counts the values that are not shown."""

    differences: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    hidden: int


def summarize(diff: Diff | None, findings: Sequence[Finding], mask_text: Callable[[str], tuple[str, int]]) -> Summary:
    """What may be shown of both. `mask_text` gives a text masked and how many values it hid."""
    mask = _Mask(mask_text)
    differences = diff.differences if diff is not None else ()
    shown = [mask.difference(item) for item in differences[:MAX_SHOWN]]
    if len(differences) > MAX_SHOWN:
        shown.append({"code": "more", "count": len(differences) - MAX_SHOWN})
        # Policy saw every code; the shown list must not look harmless for being short.
        left = {item.code for item in differences[MAX_SHOWN:]} - {item.code for item in differences[:MAX_SHOWN]}
        shown.extend({"code": code} for code in sorted(left))
    told = [mask.finding(item) for item in findings[:MAX_SHOWN]]
    if len(findings) > MAX_SHOWN:
        told.append({"code": "more", "count": len(findings) - MAX_SHOWN})
    return Summary(shown, told, mask.hidden)


class _Mask:
    def __init__(self, mask_text: Callable[[str], tuple[str, int]]) -> None:
        self._mask_text, self.hidden = mask_text, 0

    def difference(self, item: Difference) -> dict[str, Any]:
        steps = f"{item.pointer_old}{item.pointer_new}{item.instance_path}".split("/")
        sensitive = any(name_kind(step.replace("~1", "/").replace("~0", "~")) for step in steps if step)
        data = item.keyword in _DATA
        shown: dict[str, Any] = {
            "code": item.code,
            "keyword": self.text(item.keyword),
            "pointer_old": self.text(item.pointer_old),
            "pointer_new": self.text(item.pointer_new),
            "instance_path": self.text(item.instance_path),
            "effect": item.effect,
            "breaks": item.breaks,
            "via_ref": item.via_ref,
        }
        for key, value in (("old", item.old), ("new", item.new)):
            if value is not None:
                shown[key] = self.value(value, sensitive=sensitive, data=data)
        if item.witness is not None:
            shown["witness"] = self.value(item.witness[0], sensitive=sensitive, data=True)
        return shown

    def finding(self, item: Finding) -> dict[str, Any]:
        pointer, text = self.text(item.pointer), self.text(item.text)
        return {"code": item.code, "pointer": pointer, "text": text, "severity": item.severity}

    def text(self, text: str) -> str:
        if len(text) > MAX_BYTES:
            return self._left_out(len(text.encode("utf-8", "replace")))
        masked, hidden = self._mask_text(text)
        self.hidden += hidden
        return masked

    def value(self, value: Any, *, sensitive: bool, data: bool) -> Any:
        try:
            size = len(json.dumps(plain(value), ensure_ascii=False).encode("utf-8", "replace"))
        except (RecursionError, ValueError):
            return self._left_out(MAX_BYTES)
        if size > MAX_BYTES:
            return self._left_out(size)
        return self._inner(plain(value), sensitive, data, 0)

    def _left_out(self, size: int) -> str:
        self.hidden += 1
        return f"(left out: {size} bytes)"

    def _inner(self, value: Any, sensitive: bool, data: bool, depth: int) -> Any:
        if depth > _DEEPEST:
            return self._left_out(MAX_BYTES)
        if isinstance(value, dict):
            return {
                self.text(key): self._inner(item, sensitive or bool(name_kind(key)), data or key in _DATA, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._inner(item, sensitive, data, depth + 1) for item in value]
        if sensitive and data and _telling(value):
            self.hidden += 1
            return _HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        masked = self.text(str(value))
        return value if masked == str(value) else masked


def _telling(value: Any) -> bool:
    """Not the invented values of witnesses (`0`, `""`, `x`): those must stay readable."""
    if isinstance(value, str):
        return len(value.strip("x")) > 0
    return is_number(value) and bool(abs(value) >= 1000)
