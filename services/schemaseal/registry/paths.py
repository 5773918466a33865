"""One canonical form of a path and a query, before anything is decided about them.

Sources: RFC 3986 §2.3 (unreserved characters), §6.2.2 (normalisation). Stricter than these on purpose: where
two servers could read a path differently (dot segments, empty segments inside, `;` parameters, backslashes,
control bytes, double encoding) it is refused instead of guessed.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from schemaseal.registry.operation import Unclassified

_RAW = re.compile(rb"[\x21-\x7e]+\Z")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_SAFE = "-._~"


def _decode(text: str, *, plus: bool = False) -> str | Unclassified:
    """Percent-decoded once, as UTF-8 without control characters."""
    if "%" in _ESCAPE.sub("", text):
        return Unclassified("bad_escape")
    raw = bytearray()
    index = 0
    while index < len(text):
        if text[index] == "%":
            raw.append(int(text[index + 1 : index + 3], 16))
            index += 3
        else:
            raw += b" " if plus and text[index] == "+" else text[index].encode("ascii")
            index += 1
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError:
        return Unclassified("bad_encoding")
    if any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in decoded):
        return Unclassified("control_byte")
    if _ESCAPE.search(decoded):
        return Unclassified("double_encoding")
    return decoded


def encode(segment: str) -> str:
    """A segment or query value with everything but unreserved characters escaped, in upper-case hex."""
    return quote(segment, safe=_SAFE)


def segments(raw_path: str) -> tuple[str, ...] | Unclassified:
    """The decoded segments. Several slashes at the start and slashes at the end count as none.

    A decoded segment may hold `/` (subject names may); the route decides where that is allowed.
    """
    if not raw_path.isascii() or not _RAW.match(raw_path.encode()) or raw_path[0] != "/":
        return Unclassified("bad_path")
    if any(char in raw_path for char in ";\\?#"):
        return Unclassified("path_delimiter")
    trimmed = raw_path.strip("/")
    if not trimmed:
        return ()
    decoded = []
    for raw in trimmed.split("/"):
        if not raw:
            return Unclassified("empty_segment")
        segment = _decode(raw)
        if isinstance(segment, Unclassified):
            return segment
        if any(part in (".", "..") for part in segment.split("/")):
            return Unclassified("dot_segment")
        if any(char in segment for char in ";\\"):
            return Unclassified("path_delimiter")
        decoded.append(segment)
    return tuple(decoded)


def canonical_path(raw_path: str) -> str | Unclassified:
    """`//subjects/%61%2Fb/` → `/subjects/a%2Fb`. Applying it again changes nothing."""
    parts = segments(raw_path)
    return parts if isinstance(parts, Unclassified) else join(parts)


def join(parts: tuple[str, ...]) -> str:
    return "/" + "/".join(encode(part) for part in parts)


def query_pairs(raw_query: str) -> dict[str, str] | Unclassified:
    """The decoded parameters. A name that comes twice is refused: servers disagree which one counts."""
    pairs: dict[str, str] = {}
    if not raw_query:
        return pairs
    if not raw_query.isascii() or not _RAW.match(raw_query.encode()) or ";" in raw_query:
        return Unclassified("bad_query")
    for item in raw_query.split("&"):
        if not item:
            continue
        name, _, value = item.partition("=")
        decoded = _decode(name, plus=True), _decode(value, plus=True)
        if isinstance(decoded[0], Unclassified):
            return decoded[0]
        if isinstance(decoded[1], Unclassified):
            return decoded[1]
        if not decoded[0] or decoded[0] in pairs:
            return Unclassified("repeated_query")
        pairs[decoded[0]] = decoded[1]
    return pairs


def join_query(pairs: dict[str, str]) -> str:
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in sorted(pairs.items()))
