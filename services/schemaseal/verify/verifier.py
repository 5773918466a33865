"""The verification of an export, step by step; see `STEPS` for what each step proves.

The order matters. A leaf proves nothing by itself: the pinned key proves the note, the note the checkpoint,
the checkpoint's root the list of leaf hashes, and a leaf hash the leaf; the leaf then proves columns,
bodies and sealed parts. A step that fails does not stop the later ones, which then show where the export
stops agreeing with itself, but the verdict is lost.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from schemaseal.tlog import (
    Checkpoint,
    TlogError,
    VerifierKey,
    open_note,
    parse_checkpoint,
    parse_vkey,
    split_note,
)
from schemaseal.tlog.strict import printable
from schemaseal.verify import export_format as fmt
from schemaseal.verify.export_format import ExportFormatError
from schemaseal.verify.files import HashFile, Progress, read_lines, read_small, silent
from schemaseal.verify.leafcheck import parse_at
from schemaseal.verify.leafstream import LeafStream, sources_text
from schemaseal.verify.parts import Parts
from schemaseal.verify.report import (
    COMPLETENESS,
    COVERAGE,
    FRESHNESS,
    INTEGRITY,
    Findings,
    Report,
    Status,
    StepResult,
    Verdict,
)
from schemaseal.verify.tables import Roots

# Number, name, what it proves, the codes of findings that fail it.
STEPS: tuple[tuple[int, str, str, frozenset[str]], ...] = (
    (1, "key", "whose signature everything else rests on", frozenset({"key"})),
    (2, "note", "the checkpoint is what a holder of that key signed", frozenset({"note"})),
    (3, "checkpoint", "it is a tree head of this log", frozenset({"checkpoint", "origin", "manifest"})),
    (4, "tree", "the leaf hashes are those under the signed root", frozenset({"leaf-hashes", "root"})),
    (
        5,
        "older checkpoint",
        "the log only grew since it was pinned",
        frozenset({"against", "rolled-back", "fork"}),
    ),
    (
        6,
        "indexes",
        "every leaf is there once, in order, and none beside them",
        frozenset({"leaf-line", "leaf-order", "leaf-duplicate", "leaf-missing", "leaf-beyond-checkpoint"}),
    ),
    (7, "leaf hashes", "each leaf is byte for byte the one signed", frozenset({"leaf-hash", "root"})),
    (8, "leaf grammar", "each leaf can be read in one way only", frozenset({"leaf-grammar"})),
    (9, "typed columns", "the database shows what the leaf says", frozenset({"column-differs"})),
    (10, "repeated ids", "an entry that came twice came unchanged", frozenset({"id-repeated"})),
    (
        11,
        "bodies",
        "masked content is the content the leaf names",
        frozenset({"body-line", "body-edited", "body-missing"}),
    ),
    (
        12,
        "sealed parts",
        "sealed bytes are those the leaf names",
        frozenset({"sealed-line", "sealed-edited", "sealed-missing"}),
    ),
    (13, "freshness", "the log did not stop long ago", frozenset({"stale", "future"})),
    (
        14,
        "sources",
        "no source message is accounted for in two ways",
        frozenset({"position-repeated", "sources"}),
    ),
)
_FUTURE_SKEW = timedelta(minutes=5)


def verify_export(
    path: Path | str,
    *,
    vkeys: list[str] | None,
    against: bytes | None = None,
    now: datetime,
    max_age: timedelta | None = None,
    progress: Progress = silent,
) -> Report:
    """Verifies the export directory `path`.

    `vkeys` are the pinned verifier keys of the log (several after a key change); None takes the key that
    lies in the export, which can prove self-consistency only. `against` is an older checkpoint, a signed
    note, that the caller kept. `now` is aware; `max_age` bounds the age of the last leaf.

    What is wrong with the export becomes findings. Raises `ValueError` for wrong arguments: a `now` without
    zone, no or malformed pinned keys; `NotADirectoryError` if `path` is no directory; `OSError` if a file
    cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a directory")
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    run = _Verification(root, progress)
    run.step_1_key(vkeys)
    run.step_2_note()
    run.step_3_checkpoint()
    with ExitStack() as stack:
        hashes = run.step_4_tree(against)
        if hashes is not None:
            stack.callback(hashes.close)
        parts, stream = run.steps_6_to_12(hashes)
    run.finish_4_and_5(stream)
    run.step_13_freshness(stream, now, max_age)
    run.step_14_sources(stream)
    return run.report(stream, parts)


class _Verification:
    """The steps, in the order in which they are called, and what they hand on."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root = root
        self.progress = progress
        self.findings = Findings()
        self.pinned = False
        self.keys: list[VerifierKey] = []
        self.signed_by: tuple[VerifierKey, ...] = ()
        self.note_text: str | None = None
        self.checkpoint: Checkpoint | None = None
        self.older: Checkpoint | None = None
        self.manifest: fmt.Manifest | None = None
        self.proven = False  # leaf-hashes.bin is what the checkpoint's root was computed from
        self.roots: dict[int, bytes] = {}
        self.freshness = Verdict(Status.NOT_ASKED, "no maximum age was given")
        self.skipped: set[int] = set()

    def step_1_key(self, vkeys: list[str] | None) -> None:
        """The pinned key if there is one; a key that came with the export is believed nothing."""
        if vkeys is not None:
            if not vkeys:
                raise ValueError("an empty list of pinned keys can verify nothing")
            self.keys = [parse_vkey(text) for text in vkeys]
            self.pinned = True
            return
        self.skipped.add(1)
        try:
            text = read_small(self.root / fmt.LOG_VKEY).decode("utf-8")
            self.keys = [parse_vkey(text.removesuffix("\n"))]
        except ValueError as error:
            self._bad("key", f"no key was pinned, and the export's own cannot be read: {error}")

    def step_2_note(self) -> None:
        """C2SP signed-note: a known key's signature is over exactly this text."""
        try:
            note = read_small(self.root / fmt.CHECKPOINT)
            self.note_text = split_note(note)[0]  # to show, where the signatures do not hold
            opened = open_note(note, self.keys)
        except ValueError as error:
            self._bad("note", f"checkpoint: {error}")
            return
        self.signed_by = opened.signed_by

    def step_3_checkpoint(self) -> None:
        """C2SP tlog-checkpoint, of the log whose name the key bears; the manifest must agree."""
        try:
            self.manifest = fmt.parse_manifest(read_small(self.root / fmt.MANIFEST))
        except ExportFormatError as error:
            self._bad("manifest", f"manifest: {error}")
        if self.note_text is None:
            self.skipped |= {3, 4, 5, 7}
            return
        try:
            self.checkpoint = parse_checkpoint(self.note_text)
        except TlogError as error:
            self._bad("checkpoint", f"checkpoint: {error}")
            self.skipped |= {4, 5, 7}
            return
        origin, size = self.checkpoint.origin, self.checkpoint.size
        if origin not in {key.name for key in self.signed_by or self.keys}:
            self._bad("origin", f"the checkpoint is of log {printable(origin)}, not of the key's")
        if self.manifest is not None and (self.manifest.origin, self.manifest.size) != (origin, size):
            self._bad("manifest", "the manifest names another origin or size than the checkpoint")

    def step_4_tree(self, against: bytes | None) -> HashFile | None:
        """RFC 6962, 2.1: the root over leaf-hashes.bin is the signed one. Then each of its hashes is proven.

        The root at the older checkpoint's size falls out of the same pass.
        """
        self._read_older(against)
        try:
            hashes = HashFile(self.root / fmt.LEAF_HASHES)
        except ExportFormatError as error:
            self._bad("leaf-hashes", str(error))
            return None
        if self.checkpoint is None:
            return hashes
        if hashes.size != self.checkpoint.size:
            text = f"{hashes.size} leaf hashes for a checkpoint of {self.checkpoint.size} leaves"
            self._bad("leaf-hashes", text)
            return hashes
        roots = Roots(self._wanted())
        for block in hashes.blocks("tree", self.progress):
            roots.extend(block)
        self.proven = roots.at[hashes.size] == self.checkpoint.root
        if self.proven:
            self.roots = roots.at
        else:
            self._bad("leaf-hashes", "the root over the leaf hashes is not the checkpoint's")
        return hashes

    def steps_6_to_12(self, hashes: HashFile | None) -> tuple[Parts, LeafStream]:
        """One pass over each file; parts first, so that leaves can ask for them."""
        parts = Parts(self.findings)
        size = None if self.checkpoint is None else self.checkpoint.size
        wanted = self._wanted()
        stream = LeafStream(size, hashes, proven=self.proven, wanted=wanted, parts=parts, findings=self.findings)
        for name, limit, code, read in (
            (fmt.BODIES, fmt.PART_LINE_LIMIT, "body-line", parts.read_bodies),
            (fmt.SEALED, fmt.PART_LINE_LIMIT, "sealed-line", parts.read_sealed),
            (fmt.LEAVES, fmt.LEAF_LINE_LIMIT, "leaf-line", stream.read),
        ):
            try:
                read(read_lines(self.root / name, limit, name, self.progress))
            except ExportFormatError as error:
                self._bad(code, str(error))
        stream.close()
        parts.close()
        return parts, stream

    def finish_4_and_5(self, stream: LeafStream) -> None:
        """Without proven leaf hashes the leaves themselves must give the root; then the older checkpoint."""
        if self.checkpoint is None:
            return
        if not self.proven:
            self.roots = stream.roots.at
            if self.roots.get(self.checkpoint.size) != self.checkpoint.root:
                where = "no leaf can be named"
                if stream.hint is not None:
                    where = f"leaf {stream.hint} is the first to differ from the unproven leaf hashes"
                self._bad("root", f"the leaves do not give the checkpoint's root; {where}", stream.hint)
        if self.older is None:
            return
        if self.older.size > self.checkpoint.size:
            text = f"the pinned checkpoint has {self.older.size} leaves, this one {self.checkpoint.size}"
            self._bad("rolled-back", text, self.checkpoint.size)
        elif self.roots.get(self.older.size) != self.older.root:
            text = f"the first {self.older.size} leaves are not those of the pinned checkpoint"
            self._bad("fork", text)

    def step_13_freshness(self, stream: LeafStream, now: datetime, max_age: timedelta | None) -> None:
        """The age of the last leaf. Its time is the log's own statement."""
        if max_age is None:
            self.skipped.add(13)
            return
        if stream.last is None:
            text = "there is no leaf to tell an age from"
            self.findings.add(FRESHNESS, "stale", text)
            self.freshness = Verdict(Status.FAILED, text)
            return
        age = now - parse_at(stream.last.at)
        seconds = int(age.total_seconds())
        limit = int(max_age.total_seconds())
        if -age > _FUTURE_SKEW:
            text = f"the last leaf lies {-seconds} s in the future"
            self.findings.add(FRESHNESS, "future", text, stream.last_index)
            self.freshness = Verdict(Status.FAILED, text)
        elif age > max_age:
            text = f"the last leaf is {seconds} s old, over the limit of {limit} s"
            self.findings.add(FRESHNESS, "stale", text)
            self.freshness = Verdict(Status.FAILED, text)
        else:
            self.freshness = Verdict(Status.OK, f"the last leaf is {seconds} s old, the limit is {limit} s")

    def step_14_sources(self, stream: LeafStream) -> None:
        """What the leaves name as their sources is what the manifest says."""
        if self.manifest is not None and self.manifest.sources != stream.sources:
            self.findings.add(COVERAGE, "sources", "the manifest names other source positions than the leaves")

    def report(self, stream: LeafStream, parts: Parts) -> Report:
        checkpoint = self.checkpoint
        last = stream.last
        return Report(
            origin=None if checkpoint is None else checkpoint.origin,
            size=None if checkpoint is None else checkpoint.size,
            root=None if checkpoint is None else checkpoint.root.hex(),
            key_source="pinned" if self.pinned else "from the export",
            signed_by=tuple(str(key) for key in self.signed_by),
            integrity=self._integrity(),
            completeness=self._completeness(parts),
            freshness=self.freshness,
            coverage=self._coverage(stream),
            first_bad_index=self.findings.first_bad_index,
            findings=self.findings.listed(),
            counts=dict(self.findings.counts),
            leaves=stream.leaves,
            bodies=parts.bodies,
            sealed=parts.sealed,
            erased=parts.erased,
            last_at=None if last is None else last.at,
            steps=tuple(
                StepResult(number, name, proves, self._passed(number, codes)) for number, name, proves, codes in STEPS
            ),
        )

    def _read_older(self, against: bytes | None) -> None:
        if against is None:
            self.skipped.add(5)
            return
        try:
            older = parse_checkpoint(open_note(against, self.keys).text)
        except TlogError as error:
            self._bad("against", f"the older checkpoint: {error}")
            return
        if self.checkpoint is not None and older.origin != self.checkpoint.origin:
            self._bad("against", "the older checkpoint is of another log")
            return
        self.older = older

    def _wanted(self) -> set[int]:
        if self.checkpoint is None:
            return set()
        sizes = {self.checkpoint.size}
        if self.older is not None and self.older.size <= self.checkpoint.size:
            sizes.add(self.older.size)
        return sizes

    def _integrity(self) -> Verdict:
        failed = self.findings.failed(INTEGRITY)
        if failed or self.checkpoint is None:
            return Verdict(Status.FAILED, f"{failed} findings")
        leaves = f"{self.checkpoint.size} leaves"
        if not self.pinned:
            return Verdict(
                Status.LIMITED,
                f"self-consistent only: the {leaves} agree with the key that came with the export, and "
                "whoever wrote the export could have made both. Pin the log's key to prove more",
            )
        return Verdict(Status.OK, f"all {leaves} are those the pinned key signed; columns and parts agree")

    def _completeness(self, parts: Parts) -> Verdict:
        failed = self.findings.failed(COMPLETENESS) + self.findings.counts.get("leaf-missing", 0)
        if failed:
            return Verdict(Status.FAILED, f"{failed} findings of missing leaves or parts")
        if self.checkpoint is None:
            return Verdict(Status.FAILED, "without a checkpoint nobody can say what should be here")
        gone = f"; {parts.erased} erased, each with its record" if parts.erased else ""
        return Verdict(Status.OK, f"every leaf and every part it names is in the export{gone}")

    def _coverage(self, stream: LeafStream) -> Verdict:
        failed = self.findings.failed(COVERAGE)
        if failed:
            return Verdict(Status.FAILED, f"{failed} findings")
        return Verdict(
            Status.LIMITED,
            "no position is accounted for in two ways; gaps between positions and quarantined messages are "
            f"not judged ({sources_text(stream.sources) or 'no source named'})",
        )

    def _passed(self, number: int, codes: frozenset[str]) -> bool | None:
        if not codes.isdisjoint(self.findings.counts):
            return False
        return None if number in self.skipped else True

    def _bad(self, code: str, text: str, index: int | None = None) -> None:
        self.findings.add(INTEGRITY, code, text, index)
