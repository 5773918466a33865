"""Text primitives that accept exactly one spelling of each value.

Python's own readers accept more than a format does: `int(" 1_0 ")`, base64 with junk between the letters,
padding bits that are not zero, `splitlines()` at U+2028. Here the only accepted text is the one that the
matching writer produces.
"""

from __future__ import annotations

import binascii
import unicodedata

UINT64_MAX = 2**64 - 1

# The code points with the Unicode property White_Space. `str.isspace` also counts U+001C to U+001F.
WHITE_SPACE = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def encode_base64(data: bytes) -> str:
    """RFC 4648 section 4, padded, on one line."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The bytes whose only standard base64 spelling is `text`; raises `ValueError` for any other text."""
    try:
        data = binascii.a2b_base64(text)  # also ValueError: a str that is not ASCII
    except ValueError as error:
        raise ValueError("not base64") from error
    # The C reader skips foreign characters and ignores padding bits: compare with the one right spelling.
    if binascii.b2a_base64(data, newline=False) != text.encode("ascii"):
        raise ValueError("not canonical base64")
    return data


def parse_decimal(text: str) -> int:
    """An unsigned 64-bit number in ASCII decimal, no sign, no leading zero; raises `ValueError`."""
    # 20 digits are enough for 2**64 - 1; the bound keeps a hostile line from being converted at all.
    if not 1 <= len(text) <= 20 or not (text.isascii() and text.isdigit()):
        raise ValueError("not an unsigned decimal number")
    if text[0] == "0" and len(text) > 1:
        raise ValueError("leading zero")
    value = int(text)
    if value > UINT64_MAX:
        raise ValueError("does not fit 64 bits")
    return value


def has_control(text: str, *, allowed: str = "") -> bool:
    """True if an ASCII control character below U+0020 other than `allowed` occurs."""
    return any(char < " " and char not in allowed for char in text)


def printable(value: object, limit: int = 80) -> str:
    """A value from outside, made safe for a terminal or a report: quoted, ASCII, no controls, bounded."""
    text = value if isinstance(value, str) else str(value)
    cut = text[:limit]
    shown = "".join(
        char if unicodedata.category(char)[0] in "LNPSZ" and char.isascii() else ascii(char)[1:-1] for char in cut
    )
    return f"'{shown}'" + ("…" if len(text) > limit else "")
