"""Views: a text seen decoded, with the way back to where each character stands in the raw text.

A view never changes what it looks at. Views stack: a JSON string in a JSON string, its escapes undone, its digits
folded, its percent-encoding undone; `locate` goes the whole way down.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from functools import cache

_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_HIGH = r"[dD][89abAB][0-9a-fA-F]{2}"
_LOW = r"[dD][c-fC-F][0-9a-fA-F]{2}"
_JSON_ESCAPE = re.compile(rf"\\(?:u({_HIGH})\\u({_LOW})|u([0-9a-fA-F]{{4}})|(.))", re.DOTALL)
# Escapes quoted in running text, at any depth: the run of backslashes is one escape.
_ANY_ESCAPE = re.compile(r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|([\"/nrtbf]))")
_PERCENT = re.compile(r"%([2-7][0-9a-fA-F])")
_HYPHENS = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58")


class View:
    """`text`, and where each of its characters begins in `parent` (or in the raw text)."""

    __slots__ = ("_here", "_parent", "_there", "text")

    def __init__(self, text: str, here: list[int], there: list[int], parent: View | None) -> None:
        self.text = text
        self._here = here
        self._there = there
        self._parent = parent

    @classmethod
    def raw(cls, text: str) -> View:
        return cls(text, [0], [0], None)

    def locate(self, index: int) -> int:
        """Raw position of the character at `index`; for the length of the text, the raw end."""
        view: View | None = self
        while view is not None:
            anchor = bisect_right(view._here, index) - 1
            index = view._there[anchor] + index - view._here[anchor]
            view = view._parent
        return index

    def same_length(self, text: str) -> View:
        return View(text, [0], [0], self)

    def rewrite(self, pattern: re.Pattern[str], put: Callable[[re.Match[str]], str], lo: int, hi: int) -> View:
        """View of `text[lo:hi]` in which each match became one character, or none."""
        text, size, last = self.text, 0, lo
        here, there = [0], [lo]
        parts: list[str] = []
        for match in pattern.finditer(text, lo, hi):
            start, end = match.span()
            char = put(match)
            parts += (text[last:start], char)
            size += start - last
            here += (size, size + len(char))
            there += (start, end)
            size += len(char)
            last = end
        parts.append(text[last:hi])
        return View("".join(parts), here, there, self)


def _json_char(match: re.Match[str]) -> str:
    high, low, single, short = match.groups()
    if short is not None:
        return _SHORT.get(short, str(short))
    if single is not None:
        return chr(int(single, 16))
    return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))


def json_string(view: View, lo: int, hi: int) -> View:
    """The decoded content of the JSON string between the quotes at `lo - 1` and `hi`."""
    return view.rewrite(_JSON_ESCAPE, _json_char, lo, hi)


def _any_char(match: re.Match[str]) -> str:
    code, short = match.groups()
    return chr(int(code, 16)) if code is not None else _SHORT.get(short, str(short))


@cache
def _tables() -> tuple[dict[int, str], re.Pattern[str]]:
    """What is read as an ASCII character, and what is not seen at all. Made on first use: it walks two planes."""
    fold: dict[int, str] = {}
    unseen = list("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d") + [chr(code) for code in range(0xFE00, 0xFE10)]
    for code in range(0x80, 0x20000):
        char = chr(code)
        digit = unicodedata.digit(char, -1)
        plain = unicodedata.normalize("NFKC", char)
        if unicodedata.category(char) == "Cf":
            unseen.append(char)
        elif digit >= 0:
            fold[code] = str(digit)
        elif char in _HYPHENS:
            fold[code] = "-"
        elif char.isspace() and unicodedata.category(char) == "Zs":
            fold[code] = " "
        elif len(plain) == 1 and " " <= plain < "\x7f":
            fold[code] = plain
    fold[0x3002] = fold[0xFF61] = "."
    return fold, re.compile(f"[{re.escape(''.join(unseen))}\U000e0000-\U000e0fff]")


def folded(view: View) -> View:
    """Unicode digits, spaces, hyphens and wide forms as ASCII; zero-width characters gone."""
    if view.text.isascii():
        return view
    fold, unseen = _tables()
    view = view.same_length(view.text.translate(fold))
    return view.rewrite(unseen, lambda _: "", 0, len(view.text)) if unseen.search(view.text) else view


def readings(view: View) -> list[View]:
    """The ways in which a text can be read: escapes undone and folded; then percent-encoding undone, twice at most."""
    if "\\" in view.text:
        view = view.rewrite(_ANY_ESCAPE, _any_char, 0, len(view.text))
    views = [folded(view)]
    while len(views) < 3 and _PERCENT.search(views[-1].text):
        last = views[-1]
        views.append(folded(last.rewrite(_PERCENT, lambda match: chr(int(match[1], 16)), 0, len(last.text))))
    return views
