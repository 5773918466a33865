"""Compares two schema documents node by node.

The argument, top to bottom. A schema is a conjunction of groups of keywords, and every position that is compared
here is covariant: if each group of new accepts what the same group of old accepts, new accepts what old accepts.
So the list of differences over all reachable pairs of nodes decides, and a pair that was met before adds
nothing: leaving it out is the greatest fixed point, which makes recursive schemas end.

What is not compared (combinators, patterns, formats, unknown keywords) is accepted only when it is the same on
both sides *and* everything it refers to is the same; otherwise it is a difference that nobody understood.
"""

from __future__ import annotations

from typing import Any

from schemaseal.risk import keywords, objects
from schemaseal.risk.document import MAX_DEPTH, Budget, Canon, Document, NotUnderstood, canon, parse, refs_in
from schemaseal.risk.judge import Judge
from schemaseal.risk.model import Diff, Difference, conclude, consequence
from schemaseal.risk.pair import ANNOTATIONS, Pair
from schemaseal.risk.witness import WITNESS_STEPS, find_witness

MAX_DIFFERENCES = 500
CONTAINERS = frozenset({"$defs", "definitions"})
_OBJECT = frozenset({"properties", "patternProperties", "additionalProperties", "required"})
_HANDLED = (
    ANNOTATIONS
    | CONTAINERS
    | _OBJECT
    | frozenset({"type", "enum", "const", "items", "$ref", "$schema"})
    | frozenset(key for bound in keywords.BOUNDS for key in bound.keys)
)
_UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})
_SIBLINGS_COUNT = ("2019-09", "2020-12")


def diff(old_text: str, new_text: str) -> Diff:
    """The differences between two schema texts and both verdicts. Never raises for any text."""
    try:
        budget = Budget()
        old, new = parse(old_text), parse(new_text)
        if _same_document(old, new, budget):
            return Diff((), "yes", "yes")
        if old.dialect is None or new.dialect is None:
            raise NotUnderstood("unknown-dialect")
        # A boolean has no dialect of its own.
        if old.dialect != new.dialect and isinstance(old.root, dict) and isinstance(new.root, dict):
            raise NotUnderstood("dialect-changed")
    except NotUnderstood as stop:
        return conclude((_unknown(stop.code),))
    return conclude(_Comparison(old, new, budget).run())


def _unknown(code: str) -> Difference:
    effect, breaks = consequence(code)
    return Difference(
        code=code, keyword="", pointer_old="", pointer_new="", instance_path="", effect=effect, breaks=breaks
    )


def _same_document(old: Document, new: Document, budget: Budget) -> bool:
    """Equal documents mean the same, whatever is in them, unless they refer to something outside themselves."""
    if canon(old.root, budget) != canon(new.root, budget):
        return False
    refs, _ = refs_in(old.root, budget)
    if all(ref.startswith("#") for ref in refs):
        return True
    raise NotUnderstood("remote-reference")


class _Comparison:
    def __init__(self, old: Document, new: Document, budget: Budget) -> None:
        self._old, self._new, self._budget = old, new, budget
        self._dialect = new.dialect if isinstance(new.root, dict) else old.dialect
        self._seen: set[tuple[str, str]] = set()
        self._same_refs: dict[str, bool] = {}
        self._found: list[Difference] = []
        spare = Budget(WITNESS_STEPS)  # witnesses share one budget of their own: they must not cost a verdict
        self._judges = Judge(old, spare), Judge(new, spare)

    def run(self) -> tuple[Difference, ...]:
        try:
            self._pair(Pair(self._old.root, self._new.root))
        except NotUnderstood as stop:
            self._found.append(_unknown(stop.code))
        except (ArithmeticError, RecursionError):  # numbers or nesting beyond what Python can hold
            self._found.append(_unknown("budget-exceeded"))
        return tuple(self._found)

    def _add(self, pair: Pair, code: str, below: str, old: Any = None, new: Any = None) -> None:
        effect, breaks = consequence(code)
        if len(self._found) >= MAX_DIFFERENCES:
            raise NotUnderstood("budget-exceeded")
        witness = find_witness(self._judges, pair.old, pair.new, breaks, below)
        self._found.append(
            Difference(
                code=code,
                keyword=below.split("/", 1)[0],
                pointer_old=f"{pair.at_old}/{below}" if below else pair.at_old,
                pointer_new=f"{pair.at_new}/{below}" if below else pair.at_new,
                instance_path=pair.path,
                old=old,
                new=new,
                effect=effect,
                breaks=breaks,
                witness=witness,
                via_ref=pair.via_ref,
            )
        )

    # 1. One pair of nodes.

    def _pair(self, pair: Pair) -> None:
        self._budget.spend()
        if pair.depth > MAX_DEPTH:
            raise NotUnderstood("budget-exceeded")
        if (pair.at_old, pair.at_new) in self._seen:
            return
        self._seen.add((pair.at_old, pair.at_new))
        if not self._is_schema(pair.old) or not self._is_schema(pair.new):
            self._add(pair, "malformed-schema", "", pair.old, pair.new)
        elif pair.old is False or pair.new is False:
            self._forbidden(pair)
        else:
            old = {} if pair.old is True else pair.old
            new = {} if pair.new is True else pair.new
            self._nodes(Pair(old, new, pair.at_old, pair.at_new, pair.path, pair.depth, pair.via_ref))

    def _is_schema(self, node: Any) -> bool:
        return isinstance(node, dict | bool)

    def _forbidden(self, pair: Pair) -> None:
        if pair.old is not pair.new:
            code = "schema-allowed" if pair.old is False else "schema-forbidden"
            self._add(pair, code, "", pair.old, pair.new)

    def _nodes(self, pair: Pair) -> None:
        if (pair.at_old and _is_resource(pair.old)) or (pair.at_new and _is_resource(pair.new)):
            self._add(pair, "unsupported-keyword", "$id")  # references below it mean something else
            return
        if "$ref" in pair.old or "$ref" in pair.new:
            self._references(pair)
            return
        if not self._readable(pair):
            return
        self._annotations(pair)
        self._values(pair)
        self._objects(pair)
        self._items(pair)
        self._others(pair)

    # 2. References.

    def _references(self, pair: Pair) -> None:
        """Both sides are replaced by what they refer to; siblings count from 2019-09 on and are compared as well."""
        if (_UNEVALUATED & (set(pair.old) | set(pair.new))) and not self._same(pair.old, pair.new):
            self._add(pair, "unsupported-keyword", "$ref")  # what it leaves over depends on the target
            return
        old, old_rest, at_old = self._target(pair.old, pair.at_old, self._old)
        new, new_rest, at_new = self._target(pair.new, pair.at_new, self._new)
        if (old_rest or new_rest) and not ("$ref" in pair.old and "$ref" in pair.new):
            self._add(pair, "unsupported-keyword", "$ref")
            return
        if old_rest or new_rest:
            rest = Pair(old_rest, new_rest, pair.at_old, pair.at_new, pair.path, pair.depth + 1, pair.via_ref)
            self._nodes(rest)
        self._pair(Pair(old, new, at_old, at_new, pair.path, pair.depth + 1, via_ref=True))

    def _target(self, node: dict[str, Any], at: str, document: Document) -> tuple[Any, dict[str, Any], str]:
        """What a node refers to, its siblings that count, and the pointer. A node without `$ref` is its own target."""
        if "$ref" not in node:
            return node, {}, at
        if not isinstance(node["$ref"], str):
            raise NotUnderstood("malformed-schema")
        target, pointer = document.resolve(node["$ref"])
        self._no_circle(target, document)
        ignored = CONTAINERS | {"$ref", "$schema", "$id"}
        rest = {key: value for key, value in node.items() if key not in ignored}
        if self._dialect in _SIBLINGS_COUNT:
            return target, rest, pointer
        if self._dialect == "undeclared" and set(rest) - ANNOTATIONS:
            raise NotUnderstood("unknown-dialect")  # drafts disagree about whether siblings count
        return target, {}, pointer

    def _no_circle(self, node: Any, document: Document) -> None:
        """A reference that only leads to itself means nothing; taken as met before it would look like a yes."""
        met: set[str] = set()
        while isinstance(node, dict) and isinstance(node.get("$ref"), str):
            self._budget.spend()
            if node["$ref"] in met:
                raise NotUnderstood("unresolved-reference")
            met.add(node["$ref"])
            node, _ = document.resolve(node["$ref"])

    # 3. Groups of keywords.

    def _readable(self, pair: Pair) -> bool:
        """Keywords have the shapes that their dialect gives them; else nothing below can be trusted."""
        for node in (pair.old, pair.new):
            self._budget.spend(len(node))
            bad = keywords.misshapen(node, self._dialect)
            if bad is not None:
                self._add(pair, "malformed-schema", bad, pair.old.get(bad), pair.new.get(bad))
                return False
        return True

    def _annotations(self, pair: Pair) -> None:
        for key in sorted((set(pair.old) | set(pair.new)) & (ANNOTATIONS | {"$id"})):
            old, new = pair.old.get(key), pair.new.get(key)
            if (key in pair.old) != (key in pair.new) or self._canon(old) != self._canon(new):
                self._add(pair, "identifier-changed" if key == "$id" else "annotation-changed", key, old, new)

    def _values(self, pair: Pair) -> None:
        for change in keywords.type_changes(pair.old, pair.new):
            self._add(pair, change.code, change.keyword, change.old, change.new)
        for change in keywords.enum_changes(pair.old, pair.new, self._canon):
            self._add(pair, change.code, change.keyword, change.old, change.new)
        for change in keywords.bound_changes(pair.old, pair.new):
            self._add(pair, change.code, change.keyword, change.old, change.new)

    def _objects(self, pair: Pair) -> None:
        old, new = pair.old, pair.new
        named_old, named_new = old.get("properties", {}), new.get("properties", {})
        self._budget.spend(
            len(named_old) + len(named_new) + len(old.get("required", ())) + len(new.get("required", ()))
        )
        patterns = "patternProperties" in old or "patternProperties" in new
        if patterns:
            self._unless_same(pair, "patternProperties")
        for step in objects.steps(pair, named=not patterns or set(named_old) == set(named_new)):
            if isinstance(step, Pair):
                self._pair(step)
            else:
                self._add(pair, step.code, step.keyword, step.old, step.new)
        if patterns and set(named_old) != set(named_new):
            # Whether a pattern matches the name decides what governed it; dialects of patterns differ.
            self._add(pair, "unsupported-keyword", "patternProperties")

    def _items(self, pair: Pair) -> None:
        old, new = pair.old.get("items", True), pair.new.get("items", True)
        if isinstance(old, list) or isinstance(new, list):
            self._unless_same(pair, "items")
        elif "items" in pair.old or "items" in pair.new:
            self._pair(pair.child(old, new, "items", "/*"))

    def _others(self, pair: Pair) -> None:
        handled = _HANDLED | {"$id"}
        if self._dialect == "draft4":
            handled = (handled | {"id"}) - {"const"}  # draft 4 has no such keyword, yet some validators know it
        if self._dialect in ("draft4", "undeclared") and any({"enum", "const"} <= set(n) for n in (pair.old, pair.new)):
            self._unless_same(pair, "enum")  # whether `const` counts beside it is not known
        keys = (set(pair.old) | set(pair.new)) - handled
        for key in sorted(keys):
            self._unless_same(pair, key)
        if keys & _UNEVALUATED and not self._same(pair.old, pair.new):
            self._add(pair, "unsupported-keyword", sorted(keys & _UNEVALUATED)[0])

    # 4. What is only understood when it is the same.

    def _unless_same(self, pair: Pair, key: str) -> None:
        old, new = pair.old.get(key), pair.new.get(key)
        if (key in pair.old) != (key in pair.new) or not self._same(old, new):
            self._add(pair, "unsupported-keyword", key, old, new)

    def _same(self, old: Any, new: Any) -> bool:
        """Equal values whose references, all local, lead to equal values."""
        if self._canon(old) != self._canon(new):
            return False
        refs, moved = refs_in(old, self._budget)
        return not moved and all(self._same_target(ref) for ref in sorted(refs))

    def _same_target(self, ref: str) -> bool:
        if ref not in self._same_refs:
            self._same_refs[ref] = True  # a cycle of equal values is equal
            old, _ = self._old.resolve(ref)
            new, _ = self._new.resolve(ref)
            self._same_refs[ref] = self._same(old, new)
        return self._same_refs[ref]

    def _canon(self, value: Any) -> Canon:
        return canon(value, self._budget)


def _is_resource(node: dict[str, Any]) -> bool:
    """The node starts a document of its own. `id` is draft 4; a property of that name does not stand here."""
    return any(isinstance(node.get(key), str) for key in ("$id", "id", "$schema"))
