"""What the verifier remembers while leaves stream by: gaps, repeats and roots, in bounded memory. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemaseal.tlog import CompactRange

_KEY, _INDEX, _HASH = 16, 8, 32
_RECORD = _KEY + _INDEX + _HASH


class Indexes:
    """Which indexes were seen, as the gaps below the highest one: no entry per leaf."""

    def __init__(self) -> None:
        self.next = 0  # one above the highest index seen
        self._gaps: list[tuple[int, int]] = []  # [start, end), ascending

    def take(self, index: int) -> str | None:
        """None if `index` comes in its order, else `"order"` or `"duplicate"`."""
        if index >= self.next:
            if index > self.next:
                self._gaps.append((self.next, index))
            self.next = index + 1
            return None
        at = bisect_right(self._gaps, index, key=lambda gap: gap[0]) - 1
        if at < 0 or index >= self._gaps[at][1]:
            return "duplicate"
        start, end = self._gaps[at]
        self._gaps[at : at + 1] = [g for g in ((start, index), (index + 1, end)) if g[0] < g[1]]
        return "order"

    def missing(self, size: int) -> Iterator[tuple[int, int]]:
        """Ranges [start, end) below `size` that were not seen."""
        for start, end in self._gaps:
            if start < size:
                yield start, min(end, size)
        if self.next < size:
            yield self.next, size


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same key at two indexes with different leaves."""

    first: int
    index: int


class Repeats:
    """Finds keys that occur again with another leaf hash; 56 bytes a record, compared bucket by bucket."""

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(256)]

    def add(self, key: bytes, index: int, leaf_hash: bytes) -> None:
        """`key` has 16 bytes."""
        self._buckets[key[-1]] += key + index.to_bytes(_INDEX, "big") + leaf_hash

    def differing(self) -> Iterator[Repeat]:
        """Every repeat that differs from the first of its key, bucket by bucket."""
        for bucket in self._buckets:
            data = bytes(bucket)
            first: dict[bytes, bytes] = {}
            for at in range(0, len(data), _RECORD):
                rest = data[at + _KEY : at + _RECORD]
                known = first.setdefault(data[at : at + _KEY], rest)
                if known[_INDEX:] != rest[_INDEX:]:
                    yield Repeat(_index(known), _index(rest))


class Roots:
    """Merkle roots at chosen sizes of a stream of leaf hashes."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.at: dict[int, bytes] = {}
        self._wanted = sorted(set(sizes), reverse=True)
        self._tree = CompactRange.empty()
        self._note()

    @property
    def size(self) -> int:
        return self._tree.size

    def extend(self, hashes: list[bytes]) -> None:
        start = 0
        while self._wanted and self._wanted[-1] <= self._tree.size + len(hashes) - start:
            stop = start + self._wanted[-1] - self._tree.size
            self._tree = self._tree.extend(hashes[start:stop])
            start = stop
            self._note()
        self._tree = self._tree.extend(hashes[start:])

    def _note(self) -> None:
        while self._wanted and self._wanted[-1] == self._tree.size:
            self.at[self._wanted.pop()] = self._tree.root()


def _index(rest: bytes) -> int:
    return int.from_bytes(rest[:_INDEX], "big")
