"""Which properties an object may, must and must not have.

A property is governed by its own schema, or else by `additionalProperties`. So a name on one side only is
compared with `additionalProperties` of the other: a property added to an open model narrows, to a closed one widens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemaseal.risk.document import escape
from schemaseal.risk.keywords import Change
from schemaseal.risk.pair import Pair, accepts_all


def steps(pair: Pair, *, named: bool) -> Iterator[Change | Pair]:
    """Changes, and pairs to compare in turn. `named` false: names on one side only are left to the caller."""
    old, new = pair.old.get("properties", {}), pair.new.get("properties", {})
    before, after = pair.old.get("additionalProperties", True), pair.new.get("additionalProperties", True)
    for name in sorted(set(old) & set(new)):
        yield pair.child(old[name], new[name], _below(name), f"/{escape(name)}")
    if named:
        for name in sorted(set(new) - set(old)):
            yield from _added(pair, name, before, new[name])
        for name in sorted(set(old) - set(new)):
            yield from _removed(pair, name, old[name], after)
    yield from _required(pair, set(old), set(new))
    if "additionalProperties" in pair.old or "additionalProperties" in pair.new:
        yield from _others(pair, before, after)


def _below(name: str) -> str:
    return f"properties/{escape(name)}"


def _added(pair: Pair, name: str, before: Any, now: Any) -> Iterator[Change | Pair]:
    """A name that old left to `additionalProperties` now has a schema of its own."""
    if not accepts_all(before):
        closed = before is False and now is not False
        yield Change("property-added-to-closed-model" if closed else "property-added", _below(name), None, now)
        if not closed:
            at_old = f"{pair.at_old}/additionalProperties"
            yield pair.child(before, now, _below(name), f"/{escape(name)}", at_old=at_old)
    elif accepts_all(now):
        yield Change("property-added", _below(name), None, now)
    elif now is False:
        yield Change("property-forbidden", _below(name), None, now)
    elif name in pair.old.get("required", ()):
        # Every old document holds the name, so this is not the break that open models are forgiven.
        yield Change("required-property-constrained", _below(name), None, now)
    else:
        yield Change("property-added-to-open-model", _below(name), None, now)


def _removed(pair: Pair, name: str, before: Any, now: Any) -> Iterator[Change | Pair]:
    """A name that had a schema of its own is left to `additionalProperties` of new."""
    if name in pair.old.get("required", ()) and name not in pair.new.get("required", ()):
        yield Change("required-property-removed", _below(name), before, None)
    if now is False:
        if before is not False:
            yield Change("property-removed-from-closed-model", _below(name), before, None)
    elif accepts_all(now) and not accepts_all(before):
        yield Change("property-removed", _below(name), before, None)
    else:
        yield Change("property-unlisted", _below(name), before, None)
        at_new = f"{pair.at_new}/additionalProperties"
        yield pair.child(before, now, _below(name), f"/{escape(name)}", at_new=at_new)


def _required(pair: Pair, named_old: set[str], named_new: set[str]) -> Iterator[Change]:
    old, new = set(pair.old.get("required", ())), set(pair.new.get("required", ()))
    for name in sorted(new - old):
        yield Change("required-added", f"required/{escape(name)}", None, name)
    for name in sorted(old - new):
        if name not in named_old or name in named_new:  # else told as required-property-removed
            yield Change("required-removed", f"required/{escape(name)}", name, None)


def _others(pair: Pair, before: Any, now: Any) -> Iterator[Change | Pair]:
    if now is False and before is not False:
        yield Change("additional-properties-closed", "additionalProperties", before, now)
    elif before is False and now is not False:
        yield Change("additional-properties-opened", "additionalProperties", before, now)
    else:
        yield pair.child(before, now, "additionalProperties", "/*")
