"""Masking from end to end: read as the content type says, find, splice, look once more.

1. An empty body stays empty; a body too large, of an unknown type or unreadable becomes a stub.
2. Hits are collected over the raw text and replaced by tokens; nothing else changes.
3. The result is masked again until nothing is found: a token can uncover what stood beside it, and the fixed point
   makes masking idempotent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from schemaseal.masking.jsonwalk import Walker, is_json
from schemaseal.masking.model import Entry, Hit, LimitError, Manifest, Masked, MaskKeys, MaskRules, Span
from schemaseal.masking.texts import form_hits, text_hits
from schemaseal.masking.tokens import keyed_hex, token
from schemaseal.masking.views import View

_ROUNDS = 4
Finder = Callable[[str], list[Hit]]


def _json_finder(rules: MaskRules, keys: MaskKeys) -> Finder:
    def search(text: str) -> list[Hit]:
        if not is_json(text):
            raise LimitError("unreadable")
        walker = Walker(rules, keys)
        walker.document(View.raw(text))
        return walker.hits

    return search


def _finder(content_type: str, rules: MaskRules, keys: MaskKeys) -> Finder:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json") or kind.startswith("application/vnd.schemaregistry"):
        return _json_finder(rules, keys)
    if kind.startswith("text/"):
        return lambda text: text_hits(View.raw(text), rules.max_hits)
    if kind == "application/x-www-form-urlencoded":
        return lambda text: form_hits(View.raw(text), rules.max_hits)
    raise LimitError("content-type")


def _splice(text: str, hits: list[Hit], keys: MaskKeys) -> str:
    parts: list[str] = []
    last = 0
    for hit in hits:
        parts += (text[last : hit.start], hit.quotes, token(hit.entity, hit.value, keys), hit.quotes)
        last = hit.end
    return "".join([*parts, text[last:]])


def _run(text: str, search: Finder, rules: MaskRules, keys: MaskKeys) -> tuple[str, Manifest]:
    counts: Counter[tuple[str, str]] = Counter()
    for _ in range(_ROUNDS):
        hits = search(text)
        if not hits:
            entries = tuple(Entry(entity, pointer, count) for (entity, pointer), count in sorted(counts.items()))
            return text, Manifest(entries, counts.total())
        counts.update((hit.entity, hit.pointer) for hit in hits)
        if counts.total() > rules.max_hits:
            raise LimitError("hits")
        text = _splice(text, hits, keys)
    raise LimitError("unstable")


def _reason(error: Exception) -> str:
    if isinstance(error, LimitError):
        return error.reason
    # The class only: a message may quote the body.
    return "unreadable" if isinstance(error, UnicodeError) else f"error-{type(error).__name__}"


def _stubbed(reason: str) -> Manifest:
    return Manifest((Entry("STUB", "", 1),), 1, reason)


def mask(body: bytes, content_type: str, rules: MaskRules, keys: MaskKeys) -> Masked:
    """The body with every value found replaced by its token, or a stub that says why not. Never raises."""
    if not body:
        return Masked(b"", Manifest((), 0))
    try:
        if len(body) > rules.max_body_bytes:
            raise LimitError("size")
        search = _finder(content_type, rules, keys)
        text, manifest = _run(body.decode(), search, rules, keys)
        return Masked(text.encode(), manifest)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the body must not get out
        reason = _reason(error)
        stub = {"masked": "stub", "reason": reason, "size": len(body), "digest": keyed_hex(body, keys)}
        return Masked(json.dumps(stub).encode(), _stubbed(reason))


def mask_text(text: str, rules: MaskRules, keys: MaskKeys) -> tuple[str, Manifest]:
    """A plain text (a path, a header value, a message) with its values replaced; a STUB token if that fails."""
    try:
        if len(text) > rules.max_body_bytes:
            raise LimitError("size")
        return _run(text, lambda part: text_hits(View.raw(part), rules.max_hits), rules, keys)
    except Exception as error:  # noqa: BLE001 - as above
        return token("STUB", text, keys), _stubbed(_reason(error))


_NO_KEYS = MaskKeys("FIND", b"find")


def find(body: bytes) -> list[Span]:
    """Values in a body, at byte offsets: as JSON if it is JSON, otherwise as text. Raises where `mask` would stub."""
    rules = MaskRules()
    text = body.decode("utf-8", "surrogateescape")
    search = _json_finder(rules, _NO_KEYS) if is_json(text) else lambda part: text_hits(View.raw(part), rules.max_hits)
    spans, at, size = [], 0, 0
    for hit in search(text):
        start = size + len(text[at : hit.start].encode("utf-8", "surrogateescape"))
        size = start + len(text[hit.start : hit.end].encode("utf-8", "surrogateescape"))
        at = hit.end
        spans.append(Span(start, size, hit.entity))
    return spans


def find_text(text: str) -> list[Span]:
    """Values in a plain text, at character offsets."""
    return [Span(hit.start, hit.end, hit.entity) for hit in text_hits(View.raw(text), MaskRules().max_hits)]
