"""What can be wrong with bytes of the log. All are `ValueError`s: the input is bad, not the program.

TlogError
├─ ProofError         a Merkle proof does not prove what it should, or cannot exist
├─ NoteError          a note or verifier key outside the grammar
│  └─ SignatureError  the grammar holds, but no known key signed, or a known key's signature is wrong
└─ CheckpointError    a note's text is no checkpoint
"""

from __future__ import annotations


class TlogError(ValueError):
    """Root of this room's errors."""


class ProofError(TlogError):
    """Do not trust the tree head that the proof was for; ask the log again, and keep both answers."""


class NoteError(TlogError):
    """Nothing of the note may be used."""


class SignatureError(NoteError):
    """The text may be looked at, but nobody known vouches for it. Check which key was pinned."""


class CheckpointError(TlogError):
    """The signer signed something that is not a checkpoint; do not read numbers out of it."""
