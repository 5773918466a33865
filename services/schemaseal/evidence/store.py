"""Where evidence lives in ClickHouse: two servers, one for what auditors query and one for sealed parts.

Every call blocks until the server answered. A repeat of an insert changes nothing: blocks carry a
deduplication token, and readers take each index and each digest once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemaseal.contracts.events import Body, LogCheckpoint, Person, SealedPart
from schemaseal.core.errors import EvidenceMismatch, StoreUnavailable
from schemaseal.core.settings import ClickHouseSettings
from schemaseal.evidence.sequencer import Row

# What an export shows of each record beside the leaf (see `schemaseal.verify.export_format`).
COLUMNS = ("v", "id", "kind", "at", "target", "change_id", "source_topic", "source_partition", "source_offset")
_Formats = dict[str, str | dict[str, str]]
_BYTES: _Formats = {"leaf": "bytes", "leaf_hash": "bytes"}


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: dict[str, str]


_RECORDS = _Table(
    "records", {"log": "LowCardinality(String)", "idx": "UInt64", "leaf": "String", "leaf_hash": "FixedString(32)"}
)
_BODIES = _Table(
    "bodies",
    {
        "log": "LowCardinality(String)",
        "idx": "UInt64",
        "digest": "FixedString(32)",
        "salt": "FixedString(32)",
        "media_type": "LowCardinality(String)",
        "content": "String",
    },
)
_SEALED = _Table(
    "sealed_parts",
    {
        "log": "LowCardinality(String)",
        "idx": "UInt64",
        "commitment": "FixedString(32)",
        "name": "LowCardinality(String)",
        "media_type": "LowCardinality(String)",
        "size": "UInt64",
        "jwe": "String",
    },
)
_ACTORS = _Table("actors", {"iss": "String", "sub": "String", "name": "String", "seen": "DateTime64(3, 'UTC')"})
_CHECKPOINTS = _Table(
    "checkpoints",
    {
        "log": "LowCardinality(String)",
        "size": "UInt64",
        "root": "FixedString(32)",
        "note": "String",
        "at": "DateTime64(3, 'UTC')",
    },
)


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """The latest checkpoint in the database: its size, and the signed note's bytes."""

    size: int
    note: bytes


class EvidenceStore:
    """The `evidence` database as the sequencer and an export use it. Raises `StoreUnavailable`."""

    def __init__(self, settings: ClickHouseSettings, password: str) -> None:
        self._settings, self._password = settings, password
        self._clients: dict[str, Client] = {}

    @classmethod
    def connect(cls, settings: ClickHouseSettings, password: str) -> EvidenceStore:
        """A store that connects when it is first used, and again after the server was away."""
        return cls(settings, password)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    # ------------------------------------------------------------------ writing

    def insert_records(self, log: str, rows: tuple[Row, ...]) -> None:
        """One block. Its token names the rows it holds, so that the server drops a repeat."""
        data = [(log, row.index, row.leaf, row.leaf_hash) for row in rows]
        token = f"{log}/{rows[0].index}-{rows[-1].index}"
        self._insert(self._settings.records_url, _RECORDS, data, {"insert_deduplication_token": token})

    def insert_bodies(self, log: str, bodies: tuple[tuple[Body, int], ...]) -> None:
        data = [(log, idx, b.digest, b.salt, b.media_type, b.content) for b, idx in bodies]
        self._insert(self._settings.records_url, _BODIES, data)

    def insert_sealed(self, log: str, parts: tuple[tuple[SealedPart, int], ...]) -> None:
        data = [(log, idx, p.commitment, p.name, p.media_type, p.size, p.jwe) for p, idx in parts]
        self._insert(self._settings.sealed_url, _SEALED, data)

    def insert_actors(self, people: tuple[Person, ...]) -> None:
        seen = datetime.now(UTC)
        data = [(p.iss, p.sub, p.name, seen) for p in people if p.name]
        self._insert(self._settings.records_url, _ACTORS, data)

    def insert_checkpoint(self, checkpoint: LogCheckpoint) -> None:
        data = [(checkpoint.origin, checkpoint.size, checkpoint.root, checkpoint.note, checkpoint.at)]
        self._insert(self._settings.records_url, _CHECKPOINTS, data)

    def _insert(
        self, url: str, table: _Table, data: Sequence[Sequence[Any]], settings: dict[str, str] | None = None
    ) -> None:
        if not data:
            return
        try:
            self._client(url).insert(
                table.name,
                data,
                column_names=list(table.columns),
                column_type_names=list(table.columns.values()),
                settings=settings,
            )
        except (ClickHouseError, OSError) as error:
            raise self._unavailable(url, error) from error

    # ------------------------------------------------------------------ reading

    def read_range(self, log: str, first: int, last: int) -> list[tuple[int, bytes, bytes]]:
        """(index, leaf, leaf hash) of every stored row with first <= index <= last, repeats too."""
        statement = (
            "SELECT idx, leaf, leaf_hash FROM evidence.records "
            "WHERE log = {log:String} AND idx BETWEEN {first:UInt64} AND {last:UInt64} ORDER BY idx"
        )
        rows = self._rows(self._settings.records_url, statement, {"log": log, "first": first, "last": last}, _BYTES)
        return [(idx, leaf, digest) for idx, leaf, digest in rows]

    def size(self, log: str) -> int:
        """One more than the highest index stored; 0 when there is none."""
        statement = "SELECT count() > 0 ? max(idx) + 1 : 0 FROM evidence.records WHERE log = {log:String}"
        return int(next(self._rows(self._settings.records_url, statement, {"log": log}))[0])

    def rows_with_columns(
        self, log: str, first: int, last: int
    ) -> Iterator[tuple[int, bytes, bytes, dict[str, str | int]]]:
        """(index, leaf, leaf hash, typed columns as the database shows them), each index once, ascending.

        Raises `EvidenceMismatch` when one index holds two different leaves.
        """
        statement = (
            f"SELECT DISTINCT idx, leaf, leaf_hash, {', '.join(COLUMNS).replace('at,', 'toString(at),')} "  # noqa: S608
            "FROM evidence.records "
            "WHERE log = {log:String} AND idx BETWEEN {first:UInt64} AND {last:UInt64} ORDER BY idx"
        )
        parameters = {"log": log, "first": first, "last": last}
        previous = -1
        for idx, leaf, digest, *values in self._rows(self._settings.records_url, statement, parameters, _BYTES):
            if idx == previous:
                raise EvidenceMismatch(f"the database holds two different leaves for record {idx}")
            previous = idx
            yield idx, leaf, digest, dict(zip(COLUMNS, values, strict=True))

    def bodies(self, log: str, first: int, last: int) -> Iterator[Body]:
        """Bodies of the records in that range, ascending."""
        statement = (
            "SELECT DISTINCT idx, digest, salt, media_type, content FROM evidence.bodies "
            "WHERE log = {log:String} AND idx BETWEEN {first:UInt64} AND {last:UInt64} ORDER BY idx, digest"
        )
        formats: _Formats = {"digest": "bytes", "salt": "bytes", "content": "bytes"}
        parameters = {"log": log, "first": first, "last": last}
        for _, digest, salt, media_type, content in self._rows(
            self._settings.records_url, statement, parameters, formats
        ):
            yield Body(digest=digest, salt=salt, media_type=media_type, content=content)

    def sealed(self, log: str, first: int, last: int) -> Iterator[SealedPart]:
        """Sealed parts of the records in that range, ascending."""
        statement = (
            "SELECT DISTINCT idx, commitment, name, media_type, size, jwe FROM evidence.sealed_parts "
            "WHERE log = {log:String} AND idx BETWEEN {first:UInt64} AND {last:UInt64} ORDER BY idx, commitment"
        )
        formats: _Formats = {"commitment": "bytes", "jwe": "bytes"}
        parameters = {"log": log, "first": first, "last": last}
        for _, commitment, name, media_type, size, jwe in self._rows(
            self._settings.sealed_url, statement, parameters, formats
        ):
            yield SealedPart(name=name, media_type=media_type, size=size, commitment=commitment, jwe=jwe)

    def latest_checkpoint(self, log: str) -> StoredCheckpoint | None:
        statement = "SELECT size, note FROM evidence.checkpoints WHERE log = {log:String} ORDER BY size DESC LIMIT 1"
        row = next(self._rows(self._settings.records_url, statement, {"log": log}, {"note": "bytes"}), None)
        return None if row is None else StoredCheckpoint(size=row[0], note=row[1])

    # ------------------------------------------------------------------ migrations

    def migrate(self, admin_password: str) -> None:
        """Apply what is missing to both servers, as the administrator.

        Raises `EvidenceMismatch` when a migration that was applied reads differently now.
        """
        for url, folder in ((self._settings.records_url, "records"), (self._settings.sealed_url, "sealed")):
            try:
                with _open(url, "admin", admin_password, database="default") as client:
                    _migrate(client, folder)
            except (ClickHouseError, OSError) as error:
                raise self._unavailable(url, error) from error

    # ------------------------------------------------------------------ the connection

    def _client(self, url: str) -> Client:
        if url not in self._clients:
            self._clients[url] = _open(url, self._settings.user, self._password)
        return self._clients[url]

    def _rows(
        self, url: str, statement: str, parameters: dict[str, Any], formats: _Formats | None = None
    ) -> Iterator[Sequence[Any]]:
        try:
            result = self._client(url).query(statement, parameters=parameters, column_formats=formats)
        except (ClickHouseError, OSError) as error:
            raise self._unavailable(url, error) from error
        return iter(result.result_rows)

    def _unavailable(self, url: str, error: Exception) -> StoreUnavailable:
        client = self._clients.pop(url, None)
        if client is not None:
            client.close()
        first_line = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        return StoreUnavailable(f"ClickHouse at {url}: {first_line}")


def _open(url: str, user: str, password: str, database: str = "evidence") -> Client:
    place = urlsplit(url)
    return clickhouse_connect.get_client(
        host=place.hostname or "127.0.0.1",
        port=place.port or (8443 if place.scheme == "https" else 8123),
        secure=place.scheme == "https",
        username=user,
        password=password,
        database=database,
        compress=False,
        autogenerate_session_id=False,
    )


def migration_files(folder: str) -> list[tuple[str, str]]:
    """(name, text) of every migration of that server, in order."""
    here = resources.files("schemaseal.evidence") / "migrations" / folder
    return sorted(
        (f"{folder}/{entry.name}", entry.read_text("utf-8")) for entry in here.iterdir() if entry.name.endswith(".sql")
    )


def statements(text: str) -> list[str]:
    """The statements of a migration: comments removed, cut where a line ends in a semicolon."""
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [part.strip() for part in re.split(r";[ \t]*(?:\n|$)", bare) if part.strip()]


def _migrate(client: Client, folder: str) -> None:
    client.command("CREATE DATABASE IF NOT EXISTS evidence")
    client.command(
        "CREATE TABLE IF NOT EXISTS evidence._migrations (name String, sha256 String, at DateTime DEFAULT now()) "
        "ENGINE = MergeTree ORDER BY name"
    )
    rows = client.query("SELECT name, sha256 FROM evidence._migrations ORDER BY at").result_rows
    applied = {str(name): str(digest) for name, digest in rows}
    for name, text in migration_files(folder):
        digest = sha256(text.encode()).hexdigest()
        if name in applied:
            if applied[name] != digest:
                raise EvidenceMismatch(
                    f"migration {name} was applied and reads differently now",
                    hint="add a new migration instead of editing one",
                )
            continue
        for statement in statements(text):
            client.command(statement)
        # A crash before this line applies the file again: every statement in it can be repeated.
        values = f"('{name}', '{digest}')"
        client.command(f"INSERT INTO evidence._migrations (name, sha256) VALUES {values}")  # noqa: S608 - ours
