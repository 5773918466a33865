"""Write a log as an export directory (format: `schemaseal.verify.export_format`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from schemaseal.core.errors import EvidenceMismatch, SchemasealError
from schemaseal.evidence.store import EvidenceStore
from schemaseal.verify import export_format as f

STEP = 2000


def export_log(
    store: EvidenceStore,
    origin: str,
    vkey: str,
    out: Path,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Everything up to the latest checkpoint in the store; returns how many leaves.

    Written beside and renamed, so that a half-written export never has the name that was asked for. Raises
    `SchemasealError` when there is nothing to export or `out` exists, `EvidenceMismatch` when rows are missing.
    """
    checkpoint = store.latest_checkpoint(origin)
    if checkpoint is None:
        raise SchemasealError("the log has no checkpoint yet", hint="wait a second and try again")
    if out.exists():
        raise SchemasealError(f"{out} exists already", hint="choose another --out")
    beside = out.with_name(out.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    (beside / f.CHECKPOINT).write_bytes(checkpoint.note)
    (beside / f.LOG_VKEY).write_text(vkey + "\n", "utf-8")
    sources: dict[tuple[str, int], f.SourceRange] = {}
    _write_leaves(store, origin, beside, checkpoint.size, sources, progress)
    _write_parts(store, origin, beside, checkpoint.size)
    (beside / f.MANIFEST).write_bytes(f.manifest_bytes(origin, checkpoint.size, sources))
    beside.rename(out)
    return checkpoint.size


def _steps(size: int) -> Iterator[tuple[int, int]]:
    """First and last index of each portion."""
    return ((first, min(first + STEP, size) - 1) for first in range(0, size, STEP))


def _write_leaves(
    store: EvidenceStore,
    origin: str,
    beside: Path,
    size: int,
    sources: dict[tuple[str, int], f.SourceRange],
    progress: Callable[[int, int], None],
) -> None:
    expected = 0
    with (beside / f.LEAVES).open("wb") as leaves, (beside / f.LEAF_HASHES).open("wb") as hashes:
        for first, last in _steps(size):
            for index, leaf, digest, columns in store.rows_with_columns(origin, first, last):
                if index != expected:
                    break
                expected += 1
                leaves.write(f.leaf_line(index, leaf, columns))
                hashes.write(digest)
                _count(sources, columns)
            if expected != last + 1:
                raise EvidenceMismatch(f"record {expected} is missing in the database")
            progress(last + 1, size)


def _write_parts(store: EvidenceStore, origin: str, beside: Path, size: int) -> None:
    """Bodies and sealed parts, each once although several records may name it."""
    seen: set[bytes] = set()
    with (beside / f.BODIES).open("wb") as bodies, (beside / f.SEALED).open("wb") as sealed:
        for first, last in _steps(size):
            for body in store.bodies(origin, first, last):
                if body.digest not in seen:
                    seen.add(body.digest)
                    bodies.write(f.body_line(body.digest, body.salt, body.media_type, body.content))
            for part in store.sealed(origin, first, last):
                if part.commitment not in seen:
                    seen.add(part.commitment)
                    sealed.write(f.sealed_line(part.commitment, part.name, part.jwe))


def _count(sources: dict[tuple[str, int], f.SourceRange], columns: Mapping[str, f.ColumnValue]) -> None:
    place = (str(columns["source_topic"]), int(columns["source_partition"] or 0))
    offset = int(columns["source_offset"] or 0)
    known = sources.get(place)
    sources[place] = f.SourceRange(
        first=offset if known is None else min(known.first, offset),
        last=offset if known is None else max(known.last, offset),
        leaves=1 if known is None else known.leaves + 1,
    )
