"""Masking: properties over generated documents."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemaseal.masking import MaskKeys, MaskRules, find, mask, residue

RULES = MaskRules()
KEYS = MaskKeys("K1", b"k" * 32)
CARD = "4111111111111111"
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(["a@b.com", "\\n", "%40", "{"])
)
NAMES = st.text(max_size=6) | st.sampled_from(["password", "properties", "default", "required", "enum", "x@y.com"])
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def parses(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS, st.booleans(), st.integers(0, 3))
def test_masked_json_is_json_stable_and_clean(document: Any, ascii_only: bool, depth: int) -> None:
    for _ in range(depth):
        document = {"schema": json.dumps(document, ensure_ascii=ascii_only)}
    body = json.dumps(document).encode()
    result = mask(body, "application/json", RULES, KEYS)
    assert parses(result.body)
    assert result.manifest.stub is None
    assert residue(result.body) == []
    assert mask(result.body, "application/json", RULES, KEYS).body == result.body
    spans = find(body)
    if not spans:
        assert result.body == body
    else:
        assert result.body.startswith(body[: spans[0].start])
        assert result.body.endswith(body[spans[-1].end :])


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=8), st.integers(0, 3), st.booleans(), st.data())
def test_planted_card_never_survives(before: str, depth: int, as_name: bool, data: st.DataObject) -> None:
    # A digit in front would make another number of it; a surrogate is not text.
    before = "".join(char for char in before if not char.isdigit() and char not in "-.~")
    text = f"{before}{CARD}"
    document: Any = {text: 1} if as_name else {data.draw(NAMES): [text]}
    for _ in range(depth):
        document = [json.dumps(document)]
    raw = json.dumps(document)
    if data.draw(st.booleans()) and depth == 0:
        raw = raw.replace("4111", "\\u0034\\u003111")
    result = mask(raw.encode(), "application/json", RULES, KEYS)
    value = json.loads(result.body)
    for _ in range(depth):
        value = json.loads(value[0])
    assert CARD not in json.dumps(value)
    assert residue(result.body) == []


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40), st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded"]))
def test_never_raises(body: bytes, content_type: str) -> None:
    result = mask(body, content_type, RULES, KEYS)
    residue(result.body)
    if content_type == "application/json" and body:
        assert parses(result.body)
