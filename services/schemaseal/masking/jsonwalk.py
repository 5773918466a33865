"""The walk over raw JSON text: every string, number and property name once, in order, without building a copy.

A parsed copy would lose what must be seen (the first of two equal keys) and what must stay (digits of big numbers,
white space). The text is parsed only to know that it is JSON; then its tokens are read by one regular expression.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import NoReturn

from schemaseal.masking.model import Hit, LimitError, MaskKeys, MaskRules
from schemaseal.masking.names import is_sensitive_name
from schemaseal.masking.schema import ROOT, State, below_index, below_key
from schemaseal.masking.texts import HOT_DOCUMENT, HOT_STRING, text_hits, whole_hit
from schemaseal.masking.tokens import token
from schemaseal.masking.views import View, json_string

_TOKEN = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?|(-?[0-9][0-9.eE+-]*+)|([{}\[\],])')
_KEY = re.compile(r'"([^"\\]{1,128})"[ \t\r\n]*+:')
_NESTED = re.compile(r"(?:[ \t]|\\[nrt])*+[{\[]")
_OPENS_NESTED = re.compile(r'"[ \t]*+[{\[]')
_SPACE = " \t\r\n"
_POINTER_DEPTH = 32


def _refuse(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


def is_json(text: str) -> bool:
    """Whether the text is JSON (RFC 8259). NaN and Infinity are not. Depth beyond the parser's is a LimitError."""
    try:
        # Numbers stay text: the conversion of a long one is slow, or refused.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except ValueError:
        return False
    except RecursionError:
        raise LimitError("depth") from None
    return True


def _quiet(text: str) -> bool:
    """Whether a document cannot hold anything to hide: most schemas end here."""
    if HOT_DOCUMENT.search(text) or _OPENS_NESTED.search(text):
        return False
    return not any(is_sensitive_name(key) for key in set(_KEY.findall(text)))


@dataclass(slots=True)
class _Frame:
    """An open object or array: its state, the state of the value that comes next, and where it stands."""

    state: State
    is_object: bool
    next: State
    label: str = ""
    index: int = 0


@dataclass(slots=True)
class Walker:
    """Collects hits over a document and everything nested in it. `keys` only serve to mask pointers."""

    rules: MaskRules
    keys: MaskKeys
    hits: list[Hit] = field(default_factory=list)
    _budget: int = 0

    def document(self, view: View, depth: int = 0, prefix: str = "", state: State = ROOT) -> None:
        """Walk a text that is JSON. `depth` counts the JSON strings around it."""
        text = view.text
        if depth > self.rules.max_nesting:
            raise LimitError("nesting")
        if depth:
            self._budget += len(text)
            if self._budget > self.rules.max_nested_bytes:
                raise LimitError("nested-bytes")
        if state.entity is None and _quiet(text):
            return
        frames = [_Frame(State(), is_object=False, next=state)]
        for match in _TOKEN.finditer(text):
            string, colon, number, mark = match.groups()
            frame = frames[-1]
            if mark is not None:
                self._mark(frames, mark)
            elif colon is not None:
                self._key(view, match, frames, prefix)
            elif string is not None:
                self._string(view, match, frames, depth, prefix)
            elif number is not None and (frame.next.whole or len(number) >= 9):
                self._number(view, match, frames, depth, prefix)

    @staticmethod
    def _mark(frames: list[_Frame], mark: str) -> None:
        frame = frames[-1]
        if mark == ",":
            frame.index += 1
        elif mark in "{[":
            state = frame.next
            # An object under a sensitive name may be a definition: its own keys decide. A list is its elements.
            after = below_index(state) if mark == "[" else state
            frames.append(_Frame(state, is_object=mark == "{", next=after))
        else:
            frames.pop()

    def _key(self, view: View, match: re.Match[str], frames: list[_Frame], prefix: str) -> None:
        frame, name = frames[-1], match[1]
        decoded: View | None = None
        if "\\" in name:
            decoded = json_string(view, *match.span(1))
            name = decoded.text
        frame.next = below_key(frame.state, name)
        frame.label = name
        if HOT_STRING.search(name):
            key_view = decoded or json_string(view, *match.span(1))
            hits = text_hits(key_view, self.rules.max_hits)
            if hits:
                frame.label = "/".join(token(hit.entity, hit.value, self.keys) for hit in hits)
                self._add(hits, _pointer(frames[:-1], prefix))

    def _string(self, view: View, match: re.Match[str], frames: list[_Frame], depth: int, prefix: str) -> None:
        state, (start, end) = frames[-1].next, match.span(1)
        text = view.text
        if state.whole and state.entity:
            hit = whole_hit(json_string(view, start, end), state.entity)
            self._add([hit] if hit else [], _pointer(frames, prefix) if hit else "")
            return
        nested = _NESTED.match(text, start, end)
        if not nested and not HOT_STRING.search(text, start, end):
            return
        inner = json_string(view, start, end)
        if (nested or inner.text.lstrip(_SPACE)[:1] in ("{", "[")) and is_json(inner.text):
            self.document(inner, depth + 1, f"{_pointer(frames, prefix)}#", State(state.role, state.entity))
            return
        hits = text_hits(inner, self.rules.max_hits)
        if hits:
            self._add(hits, _pointer(frames, prefix))

    def _number(self, view: View, match: re.Match[str], frames: list[_Frame], depth: int, prefix: str) -> None:
        state, (start, end), text = frames[-1].next, match.span(3), match[3]
        raw = (view.locate(start), view.locate(end))
        entity = state.entity if state.whole else None
        if entity is None:
            found = text_hits(View.raw(_plain(text)), self.rules.max_hits)
            if not found:
                return
            entity, text = found[0].entity, found[0].value
        # At depth n the quotes around the token are themselves escaped n times.
        quotes = "\\" * (2**depth - 1) + '"'
        self._add([Hit(*raw, entity, text, quotes=quotes)], _pointer(frames, prefix))

    def _add(self, hits: list[Hit], pointer: str) -> None:
        self.hits += (hit._replace(pointer=pointer) for hit in hits)
        if len(self.hits) > self.rules.max_hits:
            raise LimitError("hits")


def _plain(number: str) -> str:
    """`4.111111111111111e15` with its point moved; other numbers as they are."""
    match = re.fullmatch(r"-?([0-9])\.?([0-9]{0,18})[eE]\+?([0-9]{1,2})", number)
    if match and len(match[2]) <= int(match[3]) <= 18:
        return match[1] + match[2].ljust(int(match[3]), "0")
    return number


def _pointer(frames: list[_Frame], prefix: str) -> str:
    """RFC 6901 pointer of the value about to be read; cut where it is deep."""
    parts = (frame.label if frame.is_object else str(frame.index) for frame in frames[1 : _POINTER_DEPTH + 1])
    return prefix + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
