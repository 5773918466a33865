"""The export directory, format `schemaseal-export/1`: the one definition for its writer and the verifier.

    checkpoint        signed note (C2SP tlog-checkpoint): the latest checkpoint, `size` leaves
    log.vkey          the log's verifier key and a newline. A convenience: an auditor pins the key elsewhere
    leaf-hashes.bin   RFC 6962 leaf hashes 0 … size-1, 32 bytes each. Their root must be the checkpoint's;
                      then a leaf that does not hash to its place is named, and the naming is proven
    leaves.jsonl      {"index": n, "leaf": base64, "columns": {…}} in ascending order of index, each once;
                      `leaf` is the exact bytes that were hashed, `columns` what the database showed for them
    bodies.jsonl      {"digest": hex, "salt": base64, "media_type": str, "content": base64}, each digest once;
                      digest = HMAC-SHA256(salt, content), the salt has 32 bytes
    sealed.jsonl      {"commitment": hex, "name": str, "jwe": base64, "jwe_sha256": hex}; `jwe` is the bytes
                      of the JWE JSON
    manifest.json     {"format": …, "origin": str, "size": n, "sources": {"topic/partition": {"first": offset,
                      "last": offset, "leaves": count}}} over all leaves; unsigned, cross-checked only

JSON Lines: UTF-8, one object a line, each line ends in a newline, no key twice, no key beside these; base64
is standard and canonical, hex is lower case. Bodies and sealed parts that the store no longer has are left
out; a leaf of kind `erasure` at a later index accounts for them:
`"facts": {"bodies": [digest, …], "sealed": [jwe_sha256, …]}`.

`columns` may name any of `COLUMNS`, and any scalar of `facts` under its own name; a column that stands for
nothing in the leaf is a finding. A null may be shown as an empty string; `at` may be shown in RFC 3339 or
as `YYYY-MM-DD hh:mm:ss.mmm`. The writer calls `leaf_line`, `body_line`, `sealed_line` and `manifest_bytes`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemaseal.tlog.strict import UINT64_MAX, decode_base64, encode_base64

FORMAT = "schemaseal-export/1"
CHECKPOINT = "checkpoint"
LOG_VKEY = "log.vkey"
LEAF_HASHES = "leaf-hashes.bin"
LEAVES = "leaves.jsonl"
BODIES = "bodies.jsonl"
SEALED = "sealed.jsonl"
MANIFEST = "manifest.json"

ERASURE_KIND = "erasure"
SALT_BYTES = 32
LEAF_LIMIT = 64 * 1024  # a leaf has fewer bytes
LEAF_LINE_LIMIT = 512 * 1024
PART_LINE_LIMIT = 64 * 1024 * 1024

ColumnValue = str | int | None


class ExportFormatError(ValueError):
    """A file or line that is not of this format."""


@dataclass(frozen=True, slots=True)
class LeafRow:
    index: int
    leaf: bytes
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BodyRow:
    """`digest` as the line claims it; `authentic` says whether salt and content give that digest."""

    digest: bytes
    media_type: str
    size: int
    authentic: bool


@dataclass(frozen=True, slots=True)
class SealedRow:
    """`jwe_sha256` as the line claims it; `authentic` says whether the JWE's bytes have that hash."""

    commitment: bytes
    name: str
    jwe_sha256: bytes
    authentic: bool


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Offsets that leaves name for one topic and partition; both ends included."""

    first: int
    last: int
    leaves: int


@dataclass(frozen=True, slots=True)
class Manifest:
    origin: str
    size: int
    sources: dict[str, SourceRange]


def body_digest(salt: bytes, content: bytes) -> bytes:
    """HMAC-SHA256(salt, content), raw. Raises `ExportFormatError` for a salt that has not 32 bytes."""
    if len(salt) != SALT_BYTES:  # HMAC pads its key with zeros: only one length, or two salts are one
        raise ExportFormatError(f"a salt has {SALT_BYTES} bytes")
    return hmac.digest(salt, content, "sha256")


# Writing. Each returns one whole line with its newline.


def leaf_line(index: int, leaf: bytes, columns: Mapping[str, ColumnValue]) -> bytes:
    """Line of `leaves.jsonl`. `columns` as the database shows them, not as the leaf says."""
    return _line({"index": index, "leaf": encode_base64(leaf), "columns": dict(columns)})


def body_line(digest: bytes, salt: bytes, media_type: str, content: bytes) -> bytes:
    """Line of `bodies.jsonl`; `digest` raw, as stored."""
    return _line(
        {
            "digest": digest.hex(),
            "salt": encode_base64(salt),
            "media_type": media_type,
            "content": encode_base64(content),
        }
    )


def sealed_line(commitment: bytes, name: str, jwe: bytes) -> bytes:
    """Line of `sealed.jsonl`; `commitment` raw, `jwe` the stored bytes of the JWE JSON."""
    return _line(
        {
            "commitment": commitment.hex(),
            "name": name,
            "jwe": encode_base64(jwe),
            "jwe_sha256": hashlib.sha256(jwe).hexdigest(),
        }
    )


def manifest_bytes(origin: str, size: int, sources: Mapping[tuple[str, int], SourceRange]) -> bytes:
    """`manifest.json`; `sources` by topic and partition."""
    ranges = {
        source_key(topic, partition): {"first": found.first, "last": found.last, "leaves": found.leaves}
        for (topic, partition), found in sorted(sources.items())
    }
    return _line({"format": FORMAT, "origin": origin, "size": size, "sources": ranges})


def source_key(topic: str, partition: int) -> str:
    """Name of one source partition in the manifest; a topic's name holds no slash."""
    return f"{topic}/{partition}"


# Reading. Each takes one whole line and raises `ExportFormatError`.


def parse_leaf_line(line: bytes) -> LeafRow:
    row = _object(line, {"index", "leaf", "columns"})
    columns = row["columns"]
    if not isinstance(columns, dict):
        raise ExportFormatError("columns are an object")
    return LeafRow(_number(row, "index"), _base64(row, "leaf"), columns)


def parse_body_line(line: bytes) -> BodyRow:
    row = _object(line, {"digest", "salt", "media_type", "content"})
    digest, content = parse_digest(row["digest"]), _base64(row, "content")
    computed = body_digest(_base64(row, "salt"), content)
    return BodyRow(digest, _text(row, "media_type"), len(content), hmac.compare_digest(computed, digest))


def parse_sealed_line(line: bytes) -> SealedRow:
    row = _object(line, {"commitment", "name", "jwe", "jwe_sha256"})
    claimed = parse_digest(row["jwe_sha256"])
    computed = hashlib.sha256(_base64(row, "jwe")).digest()
    return SealedRow(parse_digest(row["commitment"]), _text(row, "name"), claimed, computed == claimed)


def parse_manifest(data: bytes) -> Manifest:
    row = _object(data, {"format", "origin", "size", "sources"})
    if row["format"] != FORMAT:
        raise ExportFormatError(f"not of format {FORMAT}")
    sources = row["sources"]
    if not isinstance(sources, dict):
        raise ExportFormatError("sources are an object")
    ranges: dict[str, SourceRange] = {}
    for key, value in sources.items():
        if not isinstance(value, dict) or value.keys() != {"first", "last", "leaves"}:
            raise ExportFormatError("a source has first, last and leaves")
        ranges[key] = SourceRange(*(_number(value, name) for name in ("first", "last", "leaves")))
    return Manifest(_text(row, "origin"), _number(row, "size"), ranges)


def parse_json(data: bytes) -> Any:
    """JSON as strictly as two readers can be trusted to agree on it; raises `ExportFormatError`.

    UTF-8 only, no key twice in an object, no NaN or Infinity.
    """
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ExportFormatError(f"not strict JSON: {reason}") from error


def parse_digest(value: object) -> bytes:
    """32 bytes from 64 lower-case hex digits; raises `ExportFormatError`."""
    if not isinstance(value, str) or len(value) != 64 or not _HEX.issuperset(value):
        raise ExportFormatError("a digest has 64 lower-case hex digits")
    return bytes.fromhex(value)


_HEX = frozenset("0123456789abcdef")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def _object(line: bytes, keys: set[str]) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ExportFormatError("cut off: no newline at the end")
    row = parse_json(line[:-1])
    if not isinstance(row, dict) or row.keys() != keys:
        raise ExportFormatError(f"not an object of {', '.join(sorted(keys))}")
    return row


def _number(row: Mapping[str, Any], name: str) -> int:
    value = row[name]
    if type(value) is not int or not 0 <= value <= UINT64_MAX:  # True is an int to isinstance
        raise ExportFormatError(f"{name} is not an unsigned number")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ExportFormatError(f"{name} is not a string")
    return value


def _base64(row: Mapping[str, Any], name: str) -> bytes:
    try:
        return decode_base64(_text(row, name))
    except ExportFormatError:
        raise
    except ValueError as error:
        raise ExportFormatError(f"{name}: {error}") from error
