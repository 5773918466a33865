"""Bodies and sealed parts: first their files are read, then leaves ask for them by digest.

Only digests are remembered, never content. What a leaf asks for and is not there is kept until the end:
a later erasure leaf may account for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemaseal.tlog.strict import printable
from schemaseal.verify.export_format import ExportFormatError, parse_body_line, parse_sealed_line
from schemaseal.verify.leafcheck import BodyRef, Leaf, SealedRef
from schemaseal.verify.report import COMPLETENESS, INTEGRITY, NOTICE, Findings

_SHOWN = 16  # hex digits of a digest in a text


@dataclass(slots=True)
class _Body:
    """`authentic`: salt and content give the digest. `asked`: some leaf refers to it."""

    media_type: str
    size: int
    authentic: bool
    asked: bool = False


@dataclass(slots=True)
class _Sealed:
    """The same JWE may be there under several names; `first` is the first leaf that refers to it."""

    authentic: bool = True
    commitments: set[bytes] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    asked_names: set[str] = field(default_factory=set)
    first: int | None = None


class Parts:
    """Bodies by digest, sealed parts by the SHA-256 of the JWE."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.bodies = 0
        self.sealed = 0
        self.erased = 0
        self._bodies: dict[bytes, _Body] = {}
        self._sealed: dict[bytes, _Sealed] = {}
        self._commitments: set[bytes] = set()
        self._missing_bodies: list[tuple[int, BodyRef]] = []
        self._missing_sealed: list[tuple[int, SealedRef]] = []
        self._erasures: dict[bytes, int] = {}  # highest index of an erasure that names the digest

    def read_bodies(self, lines: Iterator[bytes]) -> None:
        for number, line in enumerate(lines, 1):
            try:
                row = parse_body_line(line)
            except ExportFormatError as error:
                self.findings.add(INTEGRITY, "body-line", f"line {number} of the bodies: {error}")
                continue
            self.bodies += 1
            known = self._bodies.setdefault(row.digest, _Body(row.media_type, row.size, row.authentic))
            if known.authentic != row.authentic or known.media_type != row.media_type:
                known.authentic = False  # two lines for one digest that differ: neither is believed

    def read_sealed(self, lines: Iterator[bytes]) -> None:
        for number, line in enumerate(lines, 1):
            try:
                row = parse_sealed_line(line)
            except ExportFormatError as error:
                self.findings.add(INTEGRITY, "sealed-line", f"line {number} of the sealed parts: {error}")
                continue
            self.sealed += 1
            known = self._sealed.setdefault(row.jwe_sha256, _Sealed())
            known.authentic &= row.authentic
            known.commitments.add(row.commitment)
            known.names.add(row.name)
            self._commitments.add(row.commitment)

    def ask(self, index: int, leaf: Leaf) -> None:
        """Checks what one leaf refers to."""
        for body in leaf.bodies:
            self._ask_body(index, body)
        for sealed in leaf.sealed:
            self._ask_sealed(index, sealed)

    def erase(self, index: int, digests: list[bytes]) -> None:
        """An erasure leaf at `index` says that these are gone on purpose."""
        for digest in digests:
            self._erasures[digest] = max(index, self._erasures.get(digest, index))

    def close(self) -> None:
        """Names what is missing without a later erasure, and what no leaf asked for."""
        for index, body in self._missing_bodies:
            if not self._accounted(index, body.digest):
                text = f"body {printable(body.name)} ({_short(body.digest)}) is not in the export"
                self.findings.add(COMPLETENESS, "body-missing", text, index)
        for index, sealed in self._missing_sealed:
            if not self._accounted(index, sealed.jwe_sha256):
                self._miss_sealed(index, sealed)
        for digest, there in self._bodies.items():
            if not there.asked:
                text = f"no leaf vouches for body {_short(digest)}"
                self.findings.add(NOTICE, "body-unreferenced", text)
        for digest, part in self._sealed.items():
            self._close_sealed(digest, part)

    def _miss_sealed(self, index: int, ref: SealedRef) -> None:
        if ref.commitment in self._commitments:
            text = f"another JWE stands for sealed part {printable(ref.name)}"
            self.findings.add(INTEGRITY, "sealed-edited", text, index)
        else:
            text = f"sealed part {printable(ref.name)} ({_short(ref.jwe_sha256)}) is not in the export"
            self.findings.add(COMPLETENESS, "sealed-missing", text, index)

    def _close_sealed(self, digest: bytes, part: _Sealed) -> None:
        if part.first is None:
            text = f"no leaf vouches for sealed part {_short(digest)}"
            self.findings.add(NOTICE, "sealed-unreferenced", text)
        elif not part.names <= part.asked_names or len(part.commitments) > 1:
            text = f"sealed part {_short(digest)} is there under a name or commitment no leaf gives it"
            self.findings.add(INTEGRITY, "sealed-edited", text, part.first)

    def _ask_body(self, index: int, ref: BodyRef) -> None:
        found = self._bodies.get(ref.digest)
        if found is None:
            self._missing_bodies.append((index, ref))
            return
        found.asked = True
        if not found.authentic:
            text = f"content of body {printable(ref.name)} does not give its digest"
            self.findings.add(INTEGRITY, "body-edited", text, index)
        elif (found.media_type, found.size) != (ref.media_type, ref.size):
            text = f"body {printable(ref.name)} has another media type or size than the leaf says"
            self.findings.add(INTEGRITY, "body-edited", text, index)

    def _ask_sealed(self, index: int, ref: SealedRef) -> None:
        found = self._sealed.get(ref.jwe_sha256)
        if found is None:
            self._missing_sealed.append((index, ref))
            return
        if found.first is None:
            found.first = index
        found.asked_names.add(ref.name)
        if not found.authentic or ref.commitment not in found.commitments:
            text = f"sealed part {printable(ref.name)} was changed"
            self.findings.add(INTEGRITY, "sealed-edited", text, index)

    def _accounted(self, index: int, digest: bytes) -> bool:
        known = self._erasures.get(digest, -1) > index
        self.erased += known
        return known


def _short(digest: bytes) -> str:
    return digest.hex()[:_SHOWN] + "…"
