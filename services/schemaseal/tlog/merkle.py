"""The Merkle tree of RFC 6962 section 2.1, SHA-256: hashes, compact range, proofs and their verification.

A tree over n leaves splits at k, the largest power of two below n: MTH(D[n]) = H(1 ‖ MTH(D[0:k]) ‖
MTH(D[k:n])). Leaves are hashed with prefix 0, nodes with prefix 1, so that no node passes for a leaf.
All hashes are 32 raw bytes; indexes and sizes count leaves.

Proofs are first computed as ranges of leaves (`inclusion_ranges`, `consistency_ranges`), so that a store
that keeps subtree roots can answer without hashing every leaf again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from schemaseal.tlog.errors import ProofError, TlogError
from schemaseal.tlog.strict import UINT64_MAX

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf's exact bytes: SHA-256(0x00 ‖ data)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return _sha256(b"\x01" + left + right).digest()


def root_hash(leaf_hashes: Iterable[bytes]) -> bytes:
    """MTH over leaf hashes in order; of no leaves, the hash of the empty string."""
    return CompactRange.empty().extend(leaf_hashes).root()


@dataclass(frozen=True, slots=True)
class CompactRange:
    """All that is needed of leaves [0, size) to compute the root and to append more. Immutable.

    `nodes` are the roots of the perfect subtrees that tile the range, largest and leftmost first: one for
    each bit set in `size`.
    """

    size: int
    nodes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.size <= UINT64_MAX:
            raise TlogError(f"a compact range cannot have size {self.size}")
        if len(self.nodes) != self.size.bit_count() or any(len(node) != HASH_SIZE for node in self.nodes):
            raise TlogError(f"{len(self.nodes)} nodes do not tile {self.size} leaves")

    @classmethod
    def empty(cls) -> CompactRange:
        return cls(0, ())

    def extend(self, leaf_hashes: Iterable[bytes]) -> CompactRange:
        """A new range with these leaf hashes appended; `self` stays as it is.

        Works level by level over the whole batch: one pass of pair hashing per level instead of a carry
        per leaf. Raises `TlogError` if a hash has not 32 bytes.
        """
        level = list(leaf_hashes)
        if not level:
            return self
        if any(len(item) != HASH_SIZE for item in level):
            raise TlogError("a leaf hash has 32 bytes")
        pending = self._by_level()
        size = self.size + len(level)
        sha256 = _sha256
        height = 0
        while level:
            left = pending.pop(height, None)
            if left is not None:
                level.insert(0, left)
            if len(level) % 2:
                pending[height] = level.pop()
            pairs = iter(level)
            level = [sha256(b"\x01" + a + b).digest() for a, b in zip(pairs, pairs, strict=True)]
            height += 1
        return CompactRange(size, tuple(pending[h] for h in sorted(pending, reverse=True)))

    def append(self, leaf: bytes) -> CompactRange:
        """A new range with one leaf hash appended."""
        return self.extend((leaf,))

    def root(self) -> bytes:
        """MTH of the range."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root

    def to_bytes(self) -> bytes:
        """Size as 8 bytes big-endian, then the nodes, 32 bytes each."""
        return self.size.to_bytes(8, "big") + b"".join(self.nodes)

    @classmethod
    def from_bytes(cls, data: bytes) -> CompactRange:
        """Inverse of `to_bytes`; raises `TlogError` for anything else."""
        if len(data) < 8 or (len(data) - 8) % HASH_SIZE:
            raise TlogError(f"{len(data)} bytes are no compact range")
        nodes = tuple(data[at : at + HASH_SIZE] for at in range(8, len(data), HASH_SIZE))
        return cls(int.from_bytes(data[:8], "big"), nodes)

    def _by_level(self) -> dict[int, bytes]:
        heights = [height for height in range(self.size.bit_length()) if self.size >> height & 1]
        return dict(zip(reversed(heights), self.nodes, strict=True))


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Leaf ranges [start, end) whose roots are PATH(index, D[size]), in proof order (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of size {size}")
    ranges: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    ranges.reverse()
    return ranges


def consistency_ranges(size1: int, size2: int) -> list[tuple[int, int]]:
    """Leaf ranges whose roots are PROOF(size1, D[size2]), in proof order (RFC 6962, 2.1.2).

    Needs 0 < size1 <= size2: from an empty tree nothing can be proven. Equal sizes: no ranges.
    """
    if not 0 < size1 <= size2:
        raise ProofError(f"no consistency proof from size {size1} to size {size2}")
    ranges: list[tuple[int, int]] = []
    start, end = 0, size2
    while size1 < end:
        middle = start + _split(end - start)
        if size1 <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start > 0:  # the old tree is no complete left subtree: its last part must be named
        ranges.append((start, end))
    ranges.reverse()
    return ranges


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int, size: int | None = None) -> list[bytes]:
    """Proof that leaf `index` is in the tree over the first `size` (default: all) leaf hashes."""
    return _roots(leaf_hashes, inclusion_ranges(index, _bounded(leaf_hashes, size)))


def consistency_proof(leaf_hashes: Sequence[bytes], size1: int, size2: int | None = None) -> list[bytes]:
    """Proof that the tree over the first `size2` (default: all) leaf hashes extends that over `size1`."""
    return _roots(leaf_hashes, consistency_ranges(size1, _bounded(leaf_hashes, size2)))


def verify_inclusion(index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raises `ProofError` unless `proof` shows the leaf at `index` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size <= UINT64_MAX:
        raise ProofError(f"no leaf {index} in a tree of size {size}")
    _check_hashes((leaf_hash, *proof))
    computed = leaf_hash
    for sibling, is_left in _climb(index, size - 1, proof):
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
    if computed != root:
        raise ProofError("inclusion proof leads to another root")


def verify_consistency(size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes) -> None:
    """Raises `ProofError` unless the tree (size2, root2) extends (size1, root1) (RFC 9162, 2.1.4.2).

    Size 0 is refused: every tree extends the empty one, so a proof from there says nothing.
    """
    if not 0 < size1 <= size2 <= UINT64_MAX:
        raise ProofError(f"no consistency proof from size {size1} to size {size2}")
    if size1 == size2:
        if proof or root1 != root2:
            raise ProofError("equal sizes need equal roots and an empty proof")
        return
    if not proof:
        raise ProofError("consistency proof is empty")
    _check_hashes(proof)
    # A perfect old tree is a node of the new one: its root is the seed and is left out of the proof.
    path = [root1, *proof] if size1 & (size1 - 1) == 0 else list(proof)
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = path[0]
    for sibling, is_left in _climb(position, last, path[1:]):
        if is_left:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
        else:  # right of the old tree's edge: only the new tree has it
            new = node_hash(new, sibling)
    if old != root1:
        raise ProofError("consistency proof leads to another old root")
    if new != root2:
        raise ProofError("consistency proof leads to another new root")


def _climb(position: int, last: int, siblings: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The way from node `position` to the root of a tree whose last node at that level is `last`.

    Gives each sibling with whether it stands left. Raises `ProofError` when there are too many or too few.
    """
    for sibling in siblings:
        if last == 0:
            raise ProofError("the proof is too long")
        is_left = bool(position & 1) or position == last
        yield sibling, is_left
        if is_left:
            while position and not position & 1:  # the right edge: levels without a sibling
                position >>= 1
                last >>= 1
        position >>= 1
        last >>= 1
    if last != 0:
        raise ProofError("the proof is too short")


def _split(size: int) -> int:
    """The largest power of two below `size` (size >= 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _bounded(leaf_hashes: Sequence[bytes], size: int | None) -> int:
    if size is None:
        return len(leaf_hashes)
    if size > len(leaf_hashes):
        raise ProofError(f"only {len(leaf_hashes)} leaf hashes for a tree of size {size}")
    return size


def _roots(leaf_hashes: Sequence[bytes], ranges: list[tuple[int, int]]) -> list[bytes]:
    return [root_hash(leaf_hashes[start:end]) for start, end in ranges]


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(item) != HASH_SIZE for item in hashes):
        raise ProofError("a hash of a proof has 32 bytes")
