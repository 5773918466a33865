"""Schema texts as documents: parsed strictly, dialect known, every step counted.

Numbers stay exact (`Decimal`): two bounds that differ in the twentieth digit are different bounds. Duplicate
keys and NaN are refused, because parsers disagree about them and we must not judge another document than the
registry stores.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

Dialect = Literal["undeclared", "draft4", "draft6", "draft7", "2019-09", "2020-12"]
DIALECTS: dict[str, Dialect] = {
    "http://json-schema.org/draft-04/schema": "draft4",
    "http://json-schema.org/draft-06/schema": "draft6",
    "http://json-schema.org/draft-07/schema": "draft7",
    "https://json-schema.org/draft/2019-09/schema": "2019-09",
    "https://json-schema.org/draft/2020-12/schema": "2020-12",
}
MAX_CHARACTERS = 1_000_000
MAX_STEPS = 200_000
MAX_DEPTH = 64  # of nested comparisons and of nested values; far below Python's own limit

Canon: TypeAlias = tuple[Any, ...]


class NotUnderstood(Exception):  # noqa: N818 - carries an outcome inside this room
    """A difference code in place of an answer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Budget:
    """Counts steps of one comparison; the count, not a clock, so that a repeat gives the same verdict."""

    left: int = MAX_STEPS

    def spend(self, steps: int = 1) -> None:
        """Raises `NotUnderstood` when nothing is left."""
        self.left -= steps
        if self.left < 0:
            raise NotUnderstood("budget-exceeded")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed schema: an object or a boolean, and what its root says about its dialect."""

    root: dict[str, Any] | bool
    dialect: Dialect | None
    declared: Any

    def resolve(self, ref: str) -> tuple[Any, str]:
        """The node that a local reference names, and its pointer. Raises `NotUnderstood`.

        Only `#`, `#/$defs/<name>` and `#/definitions/<name>`: longer pointers may cross an embedded resource,
        where dialects disagree about what they mean.
        """
        if ref == "#":
            return self.root, ""
        head, _, name = ref.rpartition("/")
        if head not in ("#/$defs", "#/definitions"):
            raise NotUnderstood("unresolved-reference" if ref.startswith("#") else "remote-reference")
        holder = self.root.get(head[2:]) if isinstance(self.root, dict) else None
        key = name.replace("~1", "/").replace("~0", "~")
        if "%" in name or not isinstance(holder, dict) or key not in holder:
            raise NotUnderstood("unresolved-reference")
        return holder[key], f"{head[1:]}/{name}"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate key")
    return made


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def parse(text: str) -> Document:
    """Raises `NotUnderstood`: `too-large`, `unparseable`, `malformed-schema`."""
    if len(text) > MAX_CHARACTERS:
        raise NotUnderstood("too-large")
    try:
        value = json.loads(text, object_pairs_hook=_pairs, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise NotUnderstood("unparseable") from error
    if isinstance(value, bool):
        return Document(value, "undeclared", None)
    if not isinstance(value, dict):
        raise NotUnderstood("malformed-schema")
    declared = value.get("$schema")
    if declared is None and "$schema" not in value:
        return Document(value, "undeclared", None)
    # The empty fragment is customary in drafts 4 to 7 and means the same.
    dialect = DIALECTS.get(declared.removesuffix("#")) if isinstance(declared, str) else None
    return Document(value, dialect, declared)


def canon(value: Any, budget: Budget, depth: int = 0) -> Canon:
    """A hashable form in which two JSON values are equal exactly when JSON Schema says so (1 is 1.0, not true)."""
    budget.spend()
    if depth > MAX_DEPTH:
        raise NotUnderstood("budget-exceeded")
    if isinstance(value, dict):
        return ("object", frozenset((k, canon(v, budget, depth + 1)) for k, v in value.items()))
    if isinstance(value, list):
        return ("array", tuple(canon(item, budget, depth + 1) for item in value))
    if value is None or isinstance(value, bool):
        return ("literal", str(value))
    return ("string" if isinstance(value, str) else "number", value)


def plain(value: Any) -> Any:
    """The same value with numbers that `json.dumps` writes; one that no float holds becomes text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        near = float(value)
        return near if Decimal(repr(near)) == value and abs(near) != float("inf") else str(value)
    return value


def escape(name: str) -> str:
    """A property name as a JSON pointer segment (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def refs_in(value: Any, budget: Budget) -> tuple[set[str], bool]:
    """Every `$ref` text in a value, wherever it stands, and whether anything else moves what a reference means."""
    refs: set[str] = set()
    moved, todo = False, [value]
    while todo:
        item = todo.pop()
        budget.spend()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            todo.extend(item.values())
            if isinstance(item.get("$ref"), str):
                refs.add(item["$ref"])
            moved = moved or any(isinstance(item.get(key), str) for key in _MOVERS)
    return refs, moved


_MOVERS = ("$id", "id", "$schema", "$dynamicRef", "$recursiveRef")
