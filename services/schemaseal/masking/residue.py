"""The second look: does masked output still hold anything sensitive? Shares no code with the masking itself.

It knows no JSON. It undoes escapes at every depth at once, and percent-encoding, over the whole body, and applies
its own, simpler patterns. It is narrower than the masking on purpose: what it finds is a failure, and the caller stubs.
Not looked for: values that only their name makes sensitive, and base64.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice

from schemaseal.masking.model import Span

_CODED = re.compile(
    r"(?<!\\)\\++(?:[uU]([0-9a-fA-F]{4})|([nrtbf])|[\"/])|%([2-7][0-9A-Fa-f])|([^\x00-\x7f])", re.DOTALL
)
_SKIP = re.compile(
    # Own tokens, digests, UUIDs, timestamps and dates.
    r"[A-Z]{3,9}~[A-Z0-9_]{1,32}~[A-Z2-7]{16}"
    r"|(?<![0-9A-Za-z])(?=[0-9]{0,125}+[A-Fa-f])(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{56}|[0-9A-Fa-f]{64}"
    r"|[0-9A-Fa-f]{96}|[0-9A-Fa-f]{128})(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
    r"|(?<![0-9-])(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]"
    r"(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?(?![0-9])"
)
_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){12,}+")
_PIECE = re.compile(r"[0-9]+")
_BRANDS = re.compile(r"4|5[1-5]|2[3-6]|22[3-9]|27[01]|3[47]|6011|65|62|35[3-8]|3[689]")
_LENGTHS = {"4": (13, 16, 19), "5": (16,), "2": (16,), "34": (15,), "37": (15,), "35": (16,), "6": (16,)}
# One is a failure already; more are listed only to help.
_ENOUGH = 100
_OTHERS = re.compile(
    r"(?P<EMAIL>[A-Za-z0-9+_-]@(?:[A-Za-z0-9-]{1,63}+\.){1,8}[A-Za-z]{2,24})"
    r"|(?P<SSN>(?<![0-9])(?<![0-9]-)(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9])(?!-[0-9]))"
    r"|(?P<SECRET>(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{6,}+\."
    r"|-----BEGIN (?:[A-Z]{1,9} ){0,2}PRIVATE KEY-"
    r"|[Bb]earer [A-Za-z0-9._+/=-]{16,}+|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36})"
)


def _char(match: re.Match[str]) -> str:
    code, short, percent, wide = match.groups()
    if short:
        return "\n"
    char = wide or (chr(int(code or percent, 16)) if code or percent else '"')
    if char.isascii():
        return char
    if unicodedata.category(char) == "Cf":
        return ""
    decimal = unicodedata.decimal(char, None)
    plain = str(decimal) if decimal is not None else unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char


def _checksum(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) << (place & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _card(digits: str) -> bool:
    lengths = _LENGTHS.get(digits[:2]) or _LENGTHS.get(digits[:1]) or (14,)
    return _BRANDS.match(digits) is not None and len(digits) in lengths and _checksum(digits)


def _cards(text: str) -> Iterator[tuple[int, int, str]]:
    for run in _DIGITS.finditer(text):
        pieces = list(_PIECE.finditer(text, run.start(), run.end()))
        for first, piece in enumerate(pieces):
            # A fraction is one piece behind a digit and a point.
            low = 2 if first == 0 and re.fullmatch("[0-9][.]", text[max(0, run.start() - 2) : run.start()]) else 1
            digits = "".join(part[0][:20] for part in pieces[first : first + low - 1])
            for last in range(first + low, min(len(pieces), first + 19) + 1):
                digits += pieces[last - 1][0][:20]
                if len(digits) > 19:
                    break
                if len(digits) >= 13 and _card(digits):
                    yield piece.start(), pieces[last - 1].end(), "CARD"


def _flat(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text with every escape undone, and (flat, raw) positions from which on both run in step."""
    parts: list[str] = []
    steps = [(0, 0)]
    size = last = 0
    for match in _CODED.finditer(text):
        char = _char(match)
        parts += (text[last : match.start()], char)
        size += match.start() - last + len(char)
        last = match.end()
        steps.append((size, last))
    parts.append(text[last:])
    return "".join(parts), steps


def residue(body: bytes) -> list[Span]:
    """What still looks sensitive in masked output, at byte offsets (rounded to the escapes around); [] if nothing."""
    text = body.decode("utf-8", "surrogateescape")
    flat, steps = _flat(text)
    shown = _SKIP.sub(lambda match: "\0" * len(match[0]), flat)
    found = [(match.start(), match.end(), match.lastgroup or "") for match in _OTHERS.finditer(shown)]
    found += islice(_cards(shown), _ENOUGH)
    return [Span(*_bytes(text, steps, start, end), entity) for start, end, entity in sorted(found)[:_ENOUGH]]


def _bytes(text: str, steps: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    raw = []
    for place in (start, end):
        flat_at, raw_at = steps[bisect_right(steps, (place, len(text))) - 1]
        raw.append(len(text[: raw_at + place - flat_at].encode("utf-8", "surrogateescape")))
    return raw[0], raw[1]
