"""Guided search for a value that two nodes judge differently.

Guesses come from both nodes: boundary values, enumerated values, the smallest object with one member changed.
A guess counts only after `Judge` said yes on one side and no on the other; so a wrong guess costs time only.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from schemaseal.risk.document import NotUnderstood, plain
from schemaseal.risk.judge import Judge, is_number
from schemaseal.risk.model import Breaks

WITNESS_STEPS = 60_000
_LONGEST = 64
_MANY = 40
_POOL: tuple[Any, ...] = (0, "", None, True, -1, 0.5, "x", [], {}, [0], [None], {"other": 0}, {"other": None})


def find_witness(judges: tuple[Judge, Judge], old: Any, new: Any, breaks: Breaks, below: str) -> tuple[Any] | None:
    """A value for the place of the two nodes, boxed, or None where none was found."""
    if breaks in ("none", "unknown"):
        return None
    sides = [(judges[0], old), (judges[1], new)]
    (yes, accepts), (no, refuses) = sides if breaks != "readers" else sides[::-1]
    if isinstance(accepts, bool) and isinstance(refuses, bool):
        return (0,) if accepts and not refuses else None
    name = below.split("/", 1)[1].replace("~1", "/").replace("~0", "~") if "/" in below else None
    try:
        for guess in _guesses(yes, accepts, refuses, name):
            value = plain(guess)
            if no.valid(refuses, value) is False and yes.valid(accepts, value) is True:
                return (value,)
    except (ArithmeticError, TypeError, ValueError, AttributeError, RecursionError):
        return None  # a guess made from a keyword of an unexpected shape or size
    return None


def _guesses(yes: Judge, accepts: Any, refuses: Any, name: str | None) -> Iterator[Any]:
    nodes = [node for node in (accepts, refuses) if isinstance(node, dict)]
    smallest = _smallest(yes, accepts)
    if name is None:
        for node in nodes:
            yield from _boundaries(node)
        yield from _POOL
    if isinstance(smallest, dict):
        if name is not None:
            yield {key: value for key, value in smallest.items() if key != name}
            named = [node["properties"][name] for node in nodes if name in node.get("properties", {})]
            inner = [guess for node in named if isinstance(node, dict) for guess in _boundaries(node)]
            for value in (*_POOL, *inner):
                yield smallest | {name: value}
        yield smallest | {"other": 0}
    yield smallest


def _boundaries(node: dict[str, Any]) -> Iterator[Any]:
    """Values at and beside the limits that a node names, and the values it enumerates."""
    enumerated = node.get("enum")
    yield from enumerated[:_MANY] if isinstance(enumerated, list) else ()
    if "const" in node:
        yield node["const"]
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if is_number(node.get(key)):
            limit = Decimal(str(node[key]))
            exact = int(limit) if abs(limit) < 10**15 and limit % 1 == 0 else limit
            yield from (exact, exact + 1, exact - 1)
    for size in (node.get(key) for key in ("minLength", "maxLength")):
        if isinstance(size, int) and 0 <= size <= _LONGEST:
            yield from ("x" * wide for wide in (size, size + 1, max(size - 1, 0)))
    for size in (node.get(key) for key in ("minItems", "maxItems")):
        if isinstance(size, int) and 0 <= size <= _LONGEST:
            yield from ([0] * wide for wide in (size, size + 1, max(size - 1, 0)))
    for size in (node.get(key) for key in ("minProperties", "maxProperties")):
        if isinstance(size, int) and 0 <= size <= _LONGEST:
            yield from ({f"p{n}": 0 for n in range(wide)} for wide in (size, size + 1, max(size - 1, 0)))


def _smallest(judge: Judge, node: Any, depth: int = 0) -> Any:
    """A small value that the node probably accepts; whether it does is for the judge to say."""
    if not isinstance(node, dict) or depth > 8:
        return {}
    try:
        if isinstance(node.get("$ref"), str):
            return _smallest(judge, judge.document.resolve(node["$ref"])[0], depth + 1)
        return _of_node(judge, node, depth)
    except (NotUnderstood, TypeError, ValueError, ArithmeticError, AttributeError):
        return {}


def _of_node(judge: Judge, node: dict[str, Any], depth: int) -> Any:
    judge.budget.spend()
    if "const" in node:
        return node["const"]
    if node.get("enum"):
        return node["enum"][0]
    kind = node.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        named, other = node.get("properties", {}), node.get("additionalProperties", True)
        wanted = node.get("required", [])[:_MANY]
        return {name: _smallest(judge, named.get(name, other), depth + 1) for name in wanted}
    if kind == "array":
        return [_smallest(judge, node.get("items", True), depth + 1)] * min(node.get("minItems", 0), _LONGEST)
    if kind == "string":
        return "x" * min(node.get("minLength", 0), _LONGEST)
    if kind in ("integer", "number"):
        low, high = node.get("minimum"), node.get("maximum")
        return low if low is not None else high if high is not None and high < 0 else 0
    return True if kind == "boolean" else None
