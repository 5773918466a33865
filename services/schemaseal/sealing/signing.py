"""Ed25519 signatures between the parts, each under a domain so that none can stand for another.

Signed bytes: domain, NUL, data. The key id is `<signer>/<first 8 bytes of SHA-256 of the public key, hex>`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemaseal.core.errors import KeyringError
from schemaseal.sealing.keys import PublicKeys, _read_private

RELEASE_DOMAIN = b"schemaseal/release/v1"
RECEIPT_DOMAIN = b"schemaseal/receipt/v1"
ENTRY_DOMAIN = b"schemaseal/entry/v1"


def key_id(name: str, public: bytes) -> str:
    """The id of a signer's key."""
    return f"{name}/{hashlib.sha256(public).hexdigest()[:16]}"


class Signer:
    """One service's signing key."""

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != 32:
            raise KeyringError(f"signing key of {name} is not a 32-byte Ed25519 seed")
        self.key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.name = name
        self.key_id = key_id(name, self.public)

    @classmethod
    def load(cls, name: str, path: Path) -> Signer:
        return cls(name, _read_private(path))

    def sign(self, domain: bytes, data: bytes) -> bytes:
        """64 bytes; deterministic (RFC 8032), so a repeat of an event carries the same bytes."""
        return self.key.sign(domain + b"\0" + data)


def verify(keys: PublicKeys, signer: str, kid: str, domain: bytes, data: bytes, signature: bytes) -> bool:
    """True only if `kid` is a key of that signer and the signature is right for this domain."""
    known = keys.signer(kid)
    if known is None or known[0] != signer:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(known[1]).verify(signature, domain + b"\0" + data)
    except InvalidSignature:
        return False
    return True
