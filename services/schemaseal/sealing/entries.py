"""Who wrote an entry: streams sign what they write to `evidence`, the sequencer believes nobody else.

Leaf, bodies, sealed parts and names are all under the signature. It is not part of the leaf: the log's own signature
takes its place.
"""

from __future__ import annotations

from dataclasses import replace

from schemaseal.contracts import codec
from schemaseal.contracts.events import EvidenceEntry
from schemaseal.sealing.keys import PublicKeys
from schemaseal.sealing.signing import ENTRY_DOMAIN, Signer, verify

WRITER = "streams"


def _signed_bytes(entry: EvidenceEntry) -> bytes:
    return codec.encode(replace(entry, key_id="", signature=b""))


def sign_entry(entry: EvidenceEntry, signer: Signer) -> EvidenceEntry:
    """The entry with its writer's signature; the same bytes each time."""
    return replace(entry, key_id=signer.key_id, signature=signer.sign(ENTRY_DOMAIN, _signed_bytes(entry)))


def is_authentic(entry: EvidenceEntry, keys: PublicKeys) -> bool:
    """Whether streams wrote exactly this entry."""
    return verify(keys, WRITER, entry.key_id, ENTRY_DOMAIN, _signed_bytes(entry), entry.signature)
