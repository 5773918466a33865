"""Writes a small export with the functions that the real writer uses, for the verifier's tests."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemaseal.tlog import Checkpoint, CompactRange, Signer, format_checkpoint, leaf_hash, sign_note
from schemaseal.verify import export_format as fmt

ORIGIN = "log.example/evidence"
LOG = Signer.from_seed(ORIGIN, b"L" * 32)
OTHER_LOG = Signer.from_seed("log.example/other", b"O" * 32)
SAME_NAME = Signer.from_seed(ORIGIN, b"X" * 32)
NAMESPACE = uuid.UUID(int=7)


def uid(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, name))


def make_body(text: str) -> tuple[bytes, bytes, bytes]:
    """Digest, salt, content."""
    salt = hashlib.sha256(b"salt of " + text.encode()).digest()
    return hmac.digest(salt, text.encode(), "sha256"), salt, text.encode()


@dataclass
class Model:
    """What the store holds; `write` turns it into an export. Tests tamper with it or with the files."""

    leaves: list[dict[str, Any]] = field(default_factory=list)
    bodies: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    sealed: list[tuple[bytes, str, bytes]] = field(default_factory=list)

    def add(self, name: str, **changes: Any) -> dict[str, Any]:
        """One leaf with a body and a sealed part of its own."""
        digest, salt, content = make_body(f'{{"masked": "{name}"}}')
        self.bodies[digest] = (salt, content)
        jwe = b'{"ciphertext":"' + name.encode() + b'"}'
        commitment = hashlib.sha256(b"commitment of " + name.encode()).digest()
        self.sealed.append((commitment, "request", jwe))
        leaf = {
            "v": 1,
            "id": uid(name),
            "kind": "change.assessed",
            "at": f"2026-11-23T08:00:{len(self.leaves) % 60:02d}.123Z",
            "target": "orders",
            "change_id": uid("change of " + name),
            "source": {"topic": "changes.intercepted", "partition": 0, "offset": len(self.leaves)},
            "bodies": [{"name": "diff", "media_type": "text/plain", "size": len(content), "digest": digest.hex()}],
            "sealed": [
                {
                    "name": "request",
                    "commitment": commitment.hex(),
                    "jwe_sha256": hashlib.sha256(jwe).hexdigest(),
                }
            ],
            "facts": {"subject": f"subject {name}", "required": 2},
        }
        leaf.update(changes)
        self.leaves.append(leaf)
        return leaf

    def encoded(self) -> list[bytes]:
        return [json.dumps(leaf, separators=(",", ":")).encode() for leaf in self.leaves]

    def note(self, size: int | None = None, signer: Signer = LOG, origin: str = ORIGIN) -> bytes:
        tree = CompactRange.empty().extend(map(leaf_hash, self.encoded()[:size]))
        return sign_note(format_checkpoint(Checkpoint(origin, tree.size, tree.root())), [signer])

    def write(self, path: Path) -> Path:
        path.mkdir()
        encoded = self.encoded()
        (path / fmt.CHECKPOINT).write_bytes(self.note())
        (path / fmt.LOG_VKEY).write_text(LOG.vkey + "\n")
        (path / fmt.LEAF_HASHES).write_bytes(b"".join(map(leaf_hash, encoded)))
        (path / fmt.LEAVES).write_bytes(
            b"".join(
                fmt.leaf_line(index, data, columns(leaf))
                for index, (leaf, data) in enumerate(zip(self.leaves, encoded, strict=True))
            )
        )
        (path / fmt.BODIES).write_bytes(
            b"".join(
                fmt.body_line(digest, salt, "text/plain", content) for digest, (salt, content) in self.bodies.items()
            )
        )
        (path / fmt.SEALED).write_bytes(b"".join(fmt.sealed_line(*part) for part in self.sealed))
        (path / fmt.MANIFEST).write_bytes(fmt.manifest_bytes(ORIGIN, len(encoded), self.sources()))
        return path

    def sources(self) -> dict[tuple[str, int], fmt.SourceRange]:
        offsets: dict[tuple[str, int], list[int]] = {}
        for leaf in self.leaves:
            source = leaf["source"]
            offsets.setdefault((source["topic"], source["partition"]), []).append(source["offset"])
        return {key: fmt.SourceRange(min(o), max(o), len(o)) for key, o in offsets.items()}


def columns(leaf: Mapping[str, Any]) -> dict[str, str | int | None]:
    """As a ClickHouse table shows them: a null string as empty, the time as DateTime64(3)."""
    shown: dict[str, str | int | None] = {
        "id": leaf["id"],
        "kind": leaf["kind"],
        "at": leaf["at"].replace("T", " ").removesuffix("Z"),
        "target": leaf["target"] or "",
        "change_id": leaf["change_id"],
        "source_offset": leaf["source"]["offset"],
    }
    if "subject" in leaf["facts"]:
        shown["subject"] = leaf["facts"]["subject"]
    return shown


def model(count: int = 10) -> Model:
    built = Model()
    for index in range(count):
        built.add(f"leaf {index}")
    return built


def edit_json_line(path: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes one line of a JSON Lines file as an attacker with an editor would."""
    lines = path.read_bytes().splitlines(keepends=True)
    value = json.loads(lines[number])
    change(value)
    lines[number] = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    path.write_bytes(b"".join(lines))
