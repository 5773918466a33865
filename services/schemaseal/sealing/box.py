"""Seal bytes to recipients and open them again.

Format: JWE general JSON serialization (RFC 7516 §7.2.1), `enc` A256GCM in the protected header, one
recipient entry each with `alg` ECDH-ES+A256KW over X25519 (RFC 8037) and its `kid`. The plaintext inside is
a 32-byte random salt followed by the bytes; the commitment is HMAC-SHA256(salt, bytes).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any, cast

from joserfc import jwe
from joserfc.errors import JoseError

from schemaseal.contracts.events import SealedPart
from schemaseal.core.errors import SealingError
from schemaseal.sealing.keys import PrivateKeys, Recipient

SALT_SIZE = 32
ALGORITHM = "ECDH-ES+A256KW"
ENCRYPTION = "A256GCM"
LIMIT = 64 * 1024 * 1024
Random = Callable[[int], bytes]


class _Registry(jwe.JWERegistry):
    # The library's default refuses values over 67 KB, which is smaller than a large schema.
    max_ciphertext_length = LIMIT


_REGISTRY = _Registry(algorithms=[ALGORITHM, ENCRYPTION])


def commitment(salt: bytes, data: bytes) -> bytes:
    """HMAC-SHA256(salt, data): binds the bytes, says nothing about them to whoever lacks the salt."""
    return hmac.digest(salt, data, hashlib.sha256)


def seal(
    data: bytes,
    recipients: Sequence[Recipient],
    *,
    name: str,
    media_type: str,
    random: Random = secrets.token_bytes,
) -> SealedPart:
    """`data` for the recipients and nobody else. Raises `SealingError`."""
    if not recipients:
        raise SealingError(f"part {name} has no recipients")
    salt = random(SALT_SIZE)
    box = jwe.GeneralJSONEncryption({"enc": ENCRYPTION}, salt + data)
    for recipient in recipients:
        box.add_recipient({"alg": ALGORITHM, "kid": recipient.kid}, recipient.key)
    try:
        sealed = jwe.encrypt_json(box, None, registry=_REGISTRY)
    except (JoseError, ValueError) as error:
        raise SealingError(f"part {name} could not be sealed ({type(error).__name__})") from error
    return SealedPart(
        name=name,
        media_type=media_type,
        size=len(data),
        commitment=commitment(salt, data),
        jwe=json.dumps(sealed, separators=(",", ":")).encode(),
    )


def key_ids(part: SealedPart) -> list[str]:
    """Key ids of those who can open the part."""
    try:
        return [str(entry["header"]["kid"]) for entry in json.loads(part.jwe)["recipients"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SealingError(f"part {part.name} is not a JWE in general JSON form") from error


def open_sealed(part: SealedPart, keys: PrivateKeys) -> bytes:
    """The bytes inside, proven by the commitment.

    Raises `SealingError` when none of our keys is among the recipients, the ciphertext was altered, or the
    bytes are not those that the commitment names.
    """
    mine = [kid for kid in key_ids(part) if kid in keys]
    if not mine:
        raise SealingError(f"part {part.name} is not sealed to any key held here")
    document = json.loads(part.jwe)
    document["recipients"] = [r for r in document["recipients"] if r["header"]["kid"] == mine[0]]
    key = keys.get(mine[0])
    assert key is not None  # noqa: S101 - `mine` holds only ids that are in keys
    try:
        opened = jwe.decrypt_json(cast("Any", document), key, registry=_REGISTRY).plaintext
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise SealingError(f"part {part.name} cannot be opened ({type(error).__name__})") from error
    if opened is None or len(opened) < SALT_SIZE:
        raise SealingError(f"part {part.name} holds no salt")
    salt, data = opened[:SALT_SIZE], opened[SALT_SIZE:]
    if not hmac.compare_digest(commitment(salt, data), part.commitment):
        raise SealingError(f"part {part.name} does not match its commitment")
    return data
