"""One canonical form of a path and a query, before anything is decided about them.

Sources: RFC 3986 §2.3 (unreserved characters), §6.2.2 (normalisation). Stricter than these on purpose: where
two servers could read a path differently (dot segments, empty segments inside, `;` parameters, backslashes,
control bytes, double encoding) it is refused instead of guessed.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from schemaseal.registry.operation import RefusedError, Unclassified

_RAW = re.compile(rb"[\x21-\x7e]+\Z")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_SAFE = "-._~"


def _decode(text: str, *, plus: bool = False) -> str:
    """Percent-decoded once, as UTF-8 without control characters."""
    if "%" in _ESCAPE.sub("", text):
        raise RefusedError("bad_escape")
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
    except UnicodeDecodeError as error:
        raise RefusedError("bad_encoding") from error
    if any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in decoded):
        raise RefusedError("control_byte")
    if _ESCAPE.search(decoded):
        raise RefusedError("double_encoding")
    return decoded


def encode(segment: str) -> str:
    """A segment or query value with everything but unreserved characters escaped, in upper-case hex."""
    return quote(segment, safe=_SAFE)


def segments(raw_path: str) -> tuple[str, ...]:
    """The decoded segments. Several slashes at the start and slashes at the end count as none.

    A decoded segment may hold `/` (subject names may); the route decides where that is allowed.
    Raises `RefusedError`, as does everything here but `canonical_path`.
    """
    if not raw_path.isascii() or not _RAW.match(raw_path.encode()) or raw_path[0] != "/":
        raise RefusedError("bad_path")
    if any(char in raw_path for char in ";\\?#"):
        raise RefusedError("path_delimiter")
    trimmed = raw_path.strip("/")
    if not trimmed:
        return ()
    decoded = []
    for raw in trimmed.split("/"):
        if not raw:
            raise RefusedError("empty_segment")
        decoded.append(_segment(_decode(raw)))
    return tuple(decoded)


def _segment(segment: str) -> str:
    if any(part in (".", "..") for part in segment.split("/")):
        raise RefusedError("dot_segment")
    if any(char in segment for char in ";\\"):
        raise RefusedError("path_delimiter")
    return segment


def canonical_path(raw_path: str) -> str | Unclassified:
    """`//subjects/%61%2Fb/` → `/subjects/a%2Fb`. Applying it again changes nothing."""
    try:
        return join(segments(raw_path))
    except RefusedError as error:
        return error.outcome


def join(parts: tuple[str, ...]) -> str:
    return "/" + "/".join(encode(part) for part in parts)


def query_pairs(raw_query: str) -> dict[str, str]:
    """The decoded parameters. A name that comes twice is refused: servers disagree which one counts."""
    pairs: dict[str, str] = {}
    if not raw_query:
        return pairs
    if not raw_query.isascii() or not _RAW.match(raw_query.encode()) or ";" in raw_query:
        raise RefusedError("bad_query")
    for item in raw_query.split("&"):
        if not item:
            continue
        name, _, value = item.partition("=")
        key = _decode(name, plus=True)
        if not key or key in pairs:
            raise RefusedError("repeated_query")
        pairs[key] = _decode(value, plus=True)
    return pairs


def join_query(pairs: dict[str, str]) -> str:
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in sorted(pairs.items()))
