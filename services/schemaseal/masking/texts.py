"""Values in one text, found in each of its readings and brought back to raw positions."""

from __future__ import annotations

import re

from schemaseal.masking.entities import entities
from schemaseal.masking.model import Hit, LimitError
from schemaseal.masking.names import is_sensitive_name
from schemaseal.masking.tokens import OWN
from schemaseal.masking.views import View, folded, readings

# A text without any of these holds nothing that `entities` could find; loose on purpose, and bounded.
_ASCII_HOT = (
    r"[@=]|[0-9](?:[ -]{0,3}[0-9]){8}|-----BEGIN|eyJ|[Bb][Ee][Aa][Rr][Ee][Rr]|[Bb][Aa][Ss][Ii][Cc]|A[KS]IA|AIza"
    r"|gh[a-z]_|github_|glpat-|[sr]k_|xox|%[2-7][0-9A-Fa-f]|[^\x00-\x7f]"
)
# `word:` inside a string; in a whole document a key's own `":` must not count, and neither must `https:`.
HOT_STRING = re.compile(rf"{_ASCII_HOT}|\\|\w[\"' \t]{{0,4}}:")
HOT_DOCUMENT = re.compile(rf"{_ASCII_HOT}|\\|\w[' \t]{{0,4}}:(?!//)")

_PAIR = re.compile(r"([^&=]{1,256})=([^&]++)")
_PLUS = re.compile(r"\+")


def join_overlapping(hits: list[Hit]) -> list[Hit]:
    """Sorted, without overlaps: hits that touch each other's text become one, under the first one's entity."""
    joined: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if joined and hit.start < joined[-1].end:
            last = joined[-1]
            if hit.end > last.end:
                joined[-1] = last._replace(end=hit.end, value=f"{last.value}\0{hit.value}")
        else:
            joined.append(hit)
    return joined


def text_hits(view: View, max_hits: int) -> list[Hit]:
    """Values in the text of a view, at raw positions, without overlaps."""
    hits: list[Hit] = []
    for reading in readings(view):
        hits += (
            Hit(reading.locate(start), reading.locate(end), entity, reading.text[start:end])
            for start, end, entity in entities(reading.text)
        )
        if len(hits) > 4 * max_hits:
            raise LimitError("hits")
    return join_overlapping(hits)


def whole_hit(view: View, entity: str) -> Hit | None:
    """A whole value hidden because of its name; None for an empty one and for one that is a token already."""
    value = folded(view).text
    if not value.strip() or OWN.fullmatch(view.text):
        return None
    return Hit(view.locate(0), view.locate(len(view.text)), entity, value)


def form_hits(view: View, max_hits: int) -> list[Hit]:
    """Values in an `application/x-www-form-urlencoded` body: by field name, and by pattern with `+` as space."""
    hits = text_hits(view, max_hits)
    spaced = view.rewrite(_PLUS, lambda _: " ", 0, len(view.text))
    hits += text_hits(spaced, max_hits)
    for match in _PAIR.finditer(view.text):
        name = readings(view.rewrite(_PLUS, lambda _: " ", match.start(1), match.end(1)))[-1].text
        entity = is_sensitive_name(name)
        if entity and not OWN.fullmatch(match[2]):
            value = readings(view.rewrite(_PLUS, lambda _: " ", match.start(2), match.end(2)))[-1].text
            hits.append(Hit(view.locate(match.start(2)), view.locate(match.end(2)), entity, value))
    return join_overlapping(hits)
