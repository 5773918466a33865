"""Identifiers. What may be repeated gets a derived id, so that a repeat changes nothing."""

from __future__ import annotations

import hashlib
import hmac
import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://schemaseal.example/ids/v1")


def new_id() -> str:
    """A random UUID, for the first mention of something."""
    return str(uuid.uuid4())


def derived_id(*parts: str) -> str:
    """UUIDv5 of the parts: same parts, same id. Parts are length-prefixed: no two lists collide."""
    return str(uuid.uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))


def keyed_digest(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 over length-prefixed parts, 32 bytes."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.digest()


def subject_key(channel_key: bytes, target: str, subject: str) -> bytes:
    """Topic key of everything about one subject: names can be sensitive and keys are in clear.

    32 lower-case hexadecimal characters (the first 128 bits of the HMAC), as ASCII bytes.
    """
    return keyed_digest(channel_key, b"subject", target.encode(), subject.encode())[:16].hex().encode()


def mask_key_id(key: bytes) -> str:
    """Short public name of a masking key; stands in every token made with it."""
    return "M" + hashlib.sha256(b"schemaseal/mask-kid\0" + key).hexdigest()[:6].upper()
