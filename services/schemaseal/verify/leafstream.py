"""The pass over `leaves.jsonl`: each leaf against its place in the tree, its columns and its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from schemaseal.tlog import leaf_hash
from schemaseal.tlog.strict import printable
from schemaseal.verify.export_format import (
    ERASURE_KIND,
    ExportFormatError,
    LeafRow,
    SourceRange,
    parse_leaf_line,
    source_key,
)
from schemaseal.verify.files import HashFile
from schemaseal.verify.leafcheck import Leaf, column_differences, erased, parse_leaf
from schemaseal.verify.parts import Parts
from schemaseal.verify.report import COVERAGE, INTEGRITY, Findings
from schemaseal.verify.tables import Indexes, Repeats, Roots

_BLOCK = 4096


class LeafStream:
    """Checks leaves one after another; `close` names what only the whole stream can tell.

    `size` is the checkpoint's, None if it could not be read. With `proven`, every hash of `hashes` is
    proven by the checkpoint's root, and a leaf with another hash is bad beyond doubt. Without, the leaves'
    own roots at the `wanted` sizes are computed, and `hashes` can only hint.
    """

    def __init__(
        self,
        size: int | None,
        hashes: HashFile | None,
        *,
        proven: bool,
        wanted: set[int],
        parts: Parts,
        findings: Findings,
    ) -> None:
        self.leaves = 0
        self.last: Leaf | None = None
        self.last_index = -1
        self.sources: dict[str, SourceRange] = {}
        self.roots = Roots(() if proven else wanted)
        self.hint: int | None = None  # first index at which an unproven hash file disagrees
        self._size = size
        self._hashes = hashes
        self._proven = proven
        self._parts = parts
        self._findings = findings
        self._indexes = Indexes()
        self._ids = Repeats()
        self._positions = Repeats()
        self._block: list[bytes] = []

    def read(self, lines: Iterator[bytes]) -> None:
        for number, line in enumerate(lines, 1):
            try:
                row = parse_leaf_line(line)
            except ExportFormatError as error:
                # What stood here cannot be named by what it says: by its place then.
                text = f"line {number} of the leaves: {error}"
                self._findings.add(INTEGRITY, "leaf-line", text, self._indexes.next)
                continue
            self.leaves += 1
            self._check(row)
        self._flush()

    def close(self) -> None:
        for start, end in self._indexes.missing(self._size or 0):
            many = f"leaves {start} to {end - 1} are" if end - start > 1 else f"leaf {start} is"
            self._findings.add(INTEGRITY, "leaf-missing", f"{many} not in the export", start)
        for repeat in self._ids.differing():
            text = f"has the id of leaf {repeat.first} and says something else"
            self._findings.add(INTEGRITY, "id-repeated", text, repeat.index)
        for repeat in self._positions.differing():
            text = f"accounts for the same source message as leaf {repeat.first} in another way"
            self._findings.add(COVERAGE, "position-repeated", text, repeat.index)

    def _check(self, row: LeafRow) -> None:
        index = row.index
        found = leaf_hash(row.leaf)
        self._check_index(index)
        self._check_hash(index, found)
        try:
            leaf = parse_leaf(row.leaf)
        except ExportFormatError as error:
            self._findings.add(INTEGRITY, "leaf-grammar", f"the leaf is not of version 1: {error}", index)
            return
        for text in column_differences(leaf, row.columns):
            self._findings.add(INTEGRITY, "column-differs", text, index)
        self._parts.ask(index, leaf)
        if leaf.kind == ERASURE_KIND:
            self._erase(index, leaf)
        self._ids.add(bytes.fromhex(leaf.id.replace("-", "")), index, found)
        self._account(index, leaf, found)
        if index > self.last_index and (self._size is None or index < self._size):
            self.last, self.last_index = leaf, index

    def _check_index(self, index: int) -> None:
        if self._size is not None and index >= self._size:
            text = f"lies beyond the checkpoint's {self._size} leaves: nothing proves it"
            self._findings.add(INTEGRITY, "leaf-beyond-checkpoint", text, index)
        problem = self._indexes.take(index)
        if problem == "order":
            self._findings.add(INTEGRITY, "leaf-order", "stands after a leaf of a higher index", index)
        elif problem == "duplicate":
            self._findings.add(INTEGRITY, "leaf-duplicate", "is there more than once", index)

    def _check_hash(self, index: int, found: bytes) -> None:
        if not self._proven:
            self._block.append(found)
            if len(self._block) == _BLOCK:
                self._flush()
        hashes = self._hashes
        if hashes is None or index >= hashes.size or hashes[index] == found:
            return
        if self._proven:
            text = "the leaf is not the one that the checkpoint was signed over"
            self._findings.add(INTEGRITY, "leaf-hash", text, index)
        elif self.hint is None or index < self.hint:
            self.hint = index

    def _erase(self, index: int, leaf: Leaf) -> None:
        try:
            self._parts.erase(index, erased(leaf, "bodies") + erased(leaf, "sealed"))
        except ExportFormatError as error:
            self._findings.add(INTEGRITY, "leaf-grammar", str(error), index)

    def _account(self, index: int, leaf: Leaf, found: bytes) -> None:
        key = source_key(leaf.topic, leaf.partition)
        known = self.sources.get(key, SourceRange(leaf.offset, leaf.offset, 0))
        self.sources[key] = SourceRange(min(known.first, leaf.offset), max(known.last, leaf.offset), known.leaves + 1)
        if leaf.change_id is not None:
            # One message may give several leaves of different kinds, or of different changes.
            said = "\n".join((key, str(leaf.offset), leaf.change_id, leaf.kind)).encode("utf-8", "replace")
            self._positions.add(hashlib.blake2b(said, digest_size=16).digest(), index, found)

    def _flush(self) -> None:
        self.roots.extend(self._block)
        self._block = []


def sources_text(sources: dict[str, SourceRange]) -> str:
    """One phrase on what was accounted for."""
    shown = [f"{printable(key)} offsets {found.first} to {found.last}" for key, found in sorted(sources.items())]
    return "; ".join(shown[:8]) + ("; …" if len(shown) > 8 else "")
