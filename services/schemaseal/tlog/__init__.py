"""The transparency log to the byte: Merkle tree, signed notes, checkpoints. Pure, no I/O.

Invariants
* Only the standard library and `cryptography` are imported, so that the offline verifier can stand on this
  room alone.
* Hashing is RFC 6962 section 2.1; notes are C2SP signed-note, checkpoints C2SP tlog-checkpoint. A parser
  accepts exactly the grammar of its specification and nothing beside it.
* A check either returns or raises an error of `tlog.errors`; there is no result that can be ignored.

Example::

    signer = Signer.from_seed("log.example/orders", seed)
    tree = CompactRange.empty().extend(leaf_hash(leaf) for leaf in leaves)
    note = sign_note(format_checkpoint(Checkpoint(signer.name, tree.size, tree.root())), [signer])
    parse_checkpoint(verify_note(note, [signer.vkey]))

The room will also hold tlog-cosignature (Ed25519 and ML-DSA-44), tlog-tiles paths and bundles, tlog-proof
files, tlog-policy and the decisions of a tlog-witness; none of them is here yet.
"""

from schemaseal.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from schemaseal.tlog.errors import CheckpointError, NoteError, ProofError, SignatureError, TlogError
from schemaseal.tlog.merkle import (
    EMPTY_ROOT,
    HASH_SIZE,
    CompactRange,
    consistency_proof,
    consistency_ranges,
    inclusion_proof,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from schemaseal.tlog.note import (
    OpenedNote,
    Signature,
    Signer,
    VerifierKey,
    make_vkey,
    open_note,
    parse_vkey,
    sign_note,
    split_note,
    verify_note,
)

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "Checkpoint",
    "CheckpointError",
    "CompactRange",
    "NoteError",
    "OpenedNote",
    "ProofError",
    "Signature",
    "SignatureError",
    "Signer",
    "TlogError",
    "VerifierKey",
    "consistency_proof",
    "consistency_ranges",
    "format_checkpoint",
    "inclusion_proof",
    "inclusion_ranges",
    "leaf_hash",
    "make_vkey",
    "node_hash",
    "open_note",
    "parse_checkpoint",
    "parse_vkey",
    "root_hash",
    "sign_note",
    "split_note",
    "verify_consistency",
    "verify_inclusion",
    "verify_note",
]
