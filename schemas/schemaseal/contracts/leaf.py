"""A leaf: the UTF-8 JSON bytes that are hashed into the log, under 64 KiB.

Shape (version 1): `v`, `id`, `kind`, `at` (RFC 3339, UTC, milliseconds), `target`, `change_id`,
`source {topic, partition, offset}`, `bodies [{name, media_type, size, digest}]`,
`sealed [{name, commitment, jwe_sha256}]`, `facts {…}`. Digests are hex. The bytes are written once and
never re-serialised: whoever checks them hashes what is stored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemaseal.contracts.events import Body, SealedPart
from schemaseal.contracts.timestamps import timestamp

LEAF_LIMIT = 64 * 1024
VERSION = 1


class LeafTooLarge(ValueError):  # noqa: N818 - named for what it is
    """A leaf over 64 KiB. What to do: put long lists into a body and keep counts and first items."""


@dataclass(frozen=True, slots=True)
class Source:
    """Position of the message that this leaf accounts for."""

    topic: str
    partition: int
    offset: int


def build(
    *,
    leaf_id: str,
    kind: str,
    at: datetime,
    source: Source,
    facts: dict[str, Any],
    target: str | None = None,
    change_id: str | None = None,
    bodies: tuple[tuple[str, Body], ...] = (),
    sealed: tuple[SealedPart, ...] = (),
) -> bytes:
    """The leaf's bytes. Deterministic: the same arguments give the same bytes. Raises `LeafTooLarge`."""
    leaf = {
        "v": VERSION,
        "id": leaf_id,
        "kind": kind,
        "at": timestamp(at),
        "target": target,
        "change_id": change_id,
        "source": {"topic": source.topic, "partition": source.partition, "offset": source.offset},
        "bodies": [
            {"name": name, "media_type": b.media_type, "size": len(b.content), "digest": b.digest.hex()}
            for name, b in bodies
        ],
        "sealed": [
            {
                "name": part.name,
                "commitment": part.commitment.hex(),
                "jwe_sha256": hashlib.sha256(part.jwe).hexdigest(),
            }
            for part in sealed
        ],
        "facts": facts,
    }
    data = json.dumps(leaf, ensure_ascii=False, separators=(",", ":"), sort_keys=False).encode()
    if len(data) >= LEAF_LIMIT:
        raise LeafTooLarge(f"leaf of kind {kind} has {len(data)} bytes")
    return data
