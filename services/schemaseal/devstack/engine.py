"""chDB, ClickHouse's engine in-process, with what a request needs around it: a connection each, limits, inserts.

One process per data path. Connections run side by side, so a slow audit query does not delay an insert.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chdb

from schemaseal.core.errors import SchemasealError
from schemaseal.devstack.guard import CATEGORIES, FUNCTIONS, Allowed

DATABASE = "evidence"
READ_LIMITS = (
    "SET max_execution_time = 30, max_memory_usage = 1000000000, max_result_bytes = 1000000000, "
    "max_bytes_before_external_group_by = 300000000, max_threads = 2, readonly = 1"
)
_CODE = re.compile(r"Code: (\d+)")


class EngineError(SchemasealError):
    """The engine refused a statement. `code` is ClickHouse's own number."""

    def __init__(self, text: str) -> None:
        found = _CODE.search(text)
        self.code = int(found[1]) if found else 1002
        super().__init__(text)


class Engine:
    """The data path's only owner."""

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = str(data)
        # Stays open: the engine ends with its last connection.
        self._anchor = chdb.connect(self._path)  # type: ignore[no-untyped-call]
        self._anchor.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        self._functions, self._aggregates = self._known_functions()

    def close(self) -> None:
        self._anchor.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = chdb.connect(self._path)  # type: ignore[no-untyped-call]
        try:
            connection.query(f"USE {DATABASE}")
            # The engine's default lets SELECT be left out, which would make an expression of `EXPLAIN AST …`.
            connection.query("SET implicit_select = 0")
            yield connection
        finally:
            connection.close()

    def run(self, statement: str, parameters: dict[str, str], fmt: str, *, readonly: bool = False) -> bytes:
        """The statement's result in that format, unless it names one itself. Raises `EngineError`."""
        with self._connection() as connection:
            if readonly:
                connection.query(READ_LIMITS)
            return _query(connection, statement, fmt, parameters)

    def explain(self, statement: str, parameters: dict[str, str]) -> str:
        """The engine's own parse of one statement (see `guard.explainable`), as text."""
        # TSVRaw: nothing is escaped on the way, so what is checked is what the parser saw.
        return self.run(f"EXPLAIN AST {statement}", parameters, "TSVRaw", readonly=True).decode("utf-8", "replace")

    def insert(self, table: str, columns: str, native: bytes, token: str | None) -> None:
        """One block in Native format. The engine reads it from a file, since it has no other way in."""
        descriptor, name = tempfile.mkstemp(suffix=".native")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(native)
            settings = f" SETTINGS insert_deduplication_token = '{token}'" if token else ""
            statement = f"INSERT INTO {DATABASE}.{table} ({columns}) FROM INFILE '{name}'{settings} FORMAT Native"
            self.run(statement, {}, "TabSeparated")
        finally:
            Path(name).unlink()

    def allowed(self, *, views_only: bool) -> Allowed:
        """What may be read now: views for an auditor, all of the database for the writer."""
        rows = self.run(
            f"SELECT name, engine FROM system.tables WHERE database = '{DATABASE}'",  # noqa: S608 - a constant
            {},
            "TabSeparated",
        )
        names = dict(line.split("\t") for line in rows.decode().splitlines())
        readable = {n for n, engine in names.items() if not views_only or (engine == "View" and n[0] != "_")}
        return Allowed(
            tables=frozenset({f"{DATABASE}.{name}" for name in readable} | {"system.settings"}),
            existing=frozenset(f"{DATABASE}.{name}" for name in names),
            functions=self._functions,
            aggregates=self._aggregates,
        )

    def _known_functions(self) -> tuple[frozenset[str], frozenset[str]]:
        rows = self.run(
            "SELECT lower(name), f.is_aggregate, f.categories, a.categories FROM system.functions AS f "
            "LEFT JOIN (SELECT name, categories FROM system.functions) AS a ON a.name = f.alias_to",
            {},
            "TabSeparated",
        )
        functions, aggregates = set(FUNCTIONS), set()
        for line in rows.decode().splitlines():
            name, is_aggregate, own, of_alias = line.split("\t")
            if own in CATEGORIES or of_alias in CATEGORIES:
                functions.add(name)
                if is_aggregate == "1":
                    aggregates.add(name)
        return frozenset(functions), frozenset(aggregates)


def _query(connection: Any, statement: str, fmt: str, parameters: dict[str, str]) -> bytes:
    try:
        result = connection.query(statement, fmt, params=parameters)
    except RuntimeError as error:  # chDB's own error class is not the one it exports
        raise EngineError(str(error)) from error
    if result.has_error():
        raise EngineError(result.error_message())
    data: bytes = result.bytes()
    return data
