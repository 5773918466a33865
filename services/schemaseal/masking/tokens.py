"""Tokens: `ENTITY~kid~base32(HMAC-SHA256(key, entity, 0, canonical value)[:10])`.

Only `[A-Z0-9_~]`, so that a token needs no escaping at any depth of JSON, in a path or in a form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from schemaseal.masking.model import MaskKeys

ENTITIES = ("CARD", "SSN", "EMAIL", "SECRET", "IBAN", "ACCOUNT", "PHONE", "BIRTHDATE", "NAME", "ADDRESS", "STUB")
# A run of nine digits is never part of what is recognised: a forged token would be a hiding place.
OWN = re.compile(
    rf"(?:{'|'.join(ENTITIES)})~(?![A-Z0-9_]{{0,24}}[0-9]{{9}})[A-Z0-9_]{{1,32}}~(?![A-Z2-7]{{0,7}}[2-7]{{9}})[A-Z2-7]{{16}}"
)
_NOT_KID = re.compile(r"[^A-Z0-9_]")
_NOT_DIGIT = re.compile(r"[^0-9]")


def canonical(entity: str, value: str) -> str:
    """One form per value, or `4111-…` and `4111…` would get different tokens."""
    if entity in ("CARD", "SSN"):
        digits = _NOT_DIGIT.sub("", value)
        return digits if len(digits) >= 9 else value
    return value.strip().lower() if entity == "EMAIL" else value


def token(entity: str, value: str, keys: MaskKeys) -> str:
    """The token of a value; same entity, value and key, same token."""
    # Lone surrogates are legal in JSON escapes and must not raise here.
    data = entity.encode() + b"\0" + canonical(entity, value).encode("utf-8", "surrogatepass")
    digest = hmac.digest(keys.key, data, hashlib.sha256)[:10]
    kid = _NOT_KID.sub("_", keys.kid.upper())[:32] or "_"
    return f"{entity}~{kid}~{base64.b32encode(digest).decode()}"


def keyed_hex(data: bytes, keys: MaskKeys) -> str:
    """Digest of a whole body; keyed, because a plain hash of a guessable body is itself a leak."""
    return hmac.digest(keys.key, b"stub\0" + data, hashlib.sha256).hex()
