"""Checkpoints of a log, C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint): the text of a signed note.

Lines: origin, tree size in decimal, root hash in base64, then optional extension lines; none is empty. The
text alone proves nothing: parse only what `tlog.note.verify_note` returned.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemaseal.tlog.errors import CheckpointError
from schemaseal.tlog.merkle import HASH_SIZE
from schemaseal.tlog.strict import UINT64_MAX, decode_base64, encode_base64, has_control, parse_decimal


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: `root` is the 32-byte Merkle root over the first `size` leaves of log `origin`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= UINT64_MAX:
            raise CheckpointError(f"tree size {self.size} does not fit 64 bits")
        if len(self.root) != HASH_SIZE:
            raise CheckpointError("a root hash has 32 bytes")
        for line in (self.origin, *self.extensions):
            if not line:
                raise CheckpointError("origin and extension lines are not empty")
            if has_control(line):
                raise CheckpointError("control character in a checkpoint")


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The note text: the only spelling of this checkpoint."""
    lines = (checkpoint.origin, str(checkpoint.size), encode_base64(checkpoint.root), *checkpoint.extensions)
    return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Inverse of `format_checkpoint`; raises `CheckpointError` for any other text."""
    if not text.endswith("\n"):
        raise CheckpointError("a checkpoint ends in a newline")
    lines = text[:-1].split("\n")
    if len(lines) < 3:
        raise CheckpointError("a checkpoint has origin, size and root")
    origin, size, root, *extensions = lines
    try:
        return Checkpoint(origin, parse_decimal(size), decode_base64(root), tuple(extensions))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"size or root: {error}") from error
