"""What an auditor or writer of the local ClickHouse endpoint tries, through an unmodified clickhouse-connect.

A refusal counts only if it leaves no trace: after every attack the tables, their rows and the files around the
process are what they were, and no text that only a file or a base table holds is in the error.
"""

# ruff: noqa: S608, E501 - the queries are what is tested, and one a line is how a list of them is read

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemaseal.contracts import leaf
from schemaseal.contracts.events import LogCheckpoint, Person
from schemaseal.core.settings import ClickHouseSettings
from schemaseal.evidence.sequencer import Row
from schemaseal.evidence.store import EvidenceStore
from schemaseal.tlog.merkle import leaf_hash

LOG = "log.example/attacks"
AT = datetime(2026, 11, 23, 8, tzinfo=UTC)
PASSWORDS = {"admin": "admin-pw", "writer": "writer-pw", "ana": "ana-pw"}
ROLES = {"admin": "admin", "writer": "writer", "ana": "auditor"}
IN_FILE, IN_TABLE, IN_ENVIRONMENT = "CANARYINFILE", "CANARYINTABLE", "CANARYINENVIRONMENT"
SIZE = 20


@dataclass(frozen=True)
class Endpoint:
    port: int
    pid: int
    around: Path
    http: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def canary(self) -> Path:
        return self.around / "canary.txt"

    @property
    def out(self) -> Path:
        return self.around / "out"

    def client(self, user: str, password: str | None = None) -> Client:
        return clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.port,
            username=user,
            password=password or PASSWORDS[user],
            database="evidence",
            compress=user != "writer",  # the endpoint takes inserts as the evidence service sends them
            autogenerate_session_id=False,
        )

    def post(self, body: bytes, user: str = "ana", **parameters: str) -> httpx.Response:
        auth = (user, PASSWORDS[user])
        return self.http.post(self.url, content=body, params=parameters, auth=auth)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def running(around: Path) -> Iterator[Endpoint]:
    users = {
        name: {"password_sha256": hashlib.sha256(PASSWORDS[name].encode()).hexdigest(), "role": role}
        for name, role in ROLES.items()
    }
    (around / "users.json").write_text(json.dumps(users))
    (around / "canary.txt").write_text(IN_FILE)
    port = free_port()
    arguments = ["--port", str(port), "--data", str(around / "data"), "--users", str(around / "users.json")]
    process = subprocess.Popen(
        [sys.executable, "-m", "schemaseal.devstack.clickhouse", *arguments],
        cwd=around,
        env={**os.environ, "SCHEMASEAL_CANARY": IN_ENVIRONMENT},
    )

    def answers() -> bool:
        assert process.poll() is None, "the endpoint ended at its start"
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False).text == "Ok.\n"
        except httpx.TransportError:
            return False

    try:
        wait_for(answers, "the endpoint's start")
        limits = httpx.Limits(max_connections=None)
        with httpx.Client(timeout=120, trust_env=False, limits=limits) as http:
            yield Endpoint(port, process.pid, around, http)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def rows() -> tuple[Row, ...]:
    leaves = [
        leaf.build(
            leaf_id=f"id-{index}",
            kind="baseline" if index % 2 else "act.read",
            at=AT + timedelta(minutes=index),
            source=leaf.Source("acts.observed", 0, index),
            target="orders",
            facts={
                "subject": f"subject-{index}",
                "version": index,
                "status": 200,
                "requester": {"iss": "https://idp.example", "sub": "alice"},
            },
        )
        for index in range(SIZE)
    ]
    return tuple(Row(index, data, leaf_hash(data)) for index, data in enumerate(leaves))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The endpoint with a log of 20 records in it, half of them reads and half baseline versions."""
    with running(tmp_path_factory.mktemp("clickhouse")) as started:
        url = started.url.rstrip("/")
        store = EvidenceStore.connect(ClickHouseSettings(records_url=url, sealed_url=url), PASSWORDS["writer"])
        store.migrate(PASSWORDS["admin"])
        store.insert_records(LOG, rows())
        store.insert_actors((Person(iss="https://other.example", sub="mallory", name=IN_TABLE),))
        store.insert_checkpoint(
            LogCheckpoint(origin=LOG, size=SIZE, root=b"\0" * 32, note=b"note", range=b"", next_offset=SIZE, at=AT)
        )
        store.close()
        yield started


@pytest.fixture(scope="module")
def auditor(endpoint: Endpoint) -> Iterator[Client]:
    with endpoint.client("ana") as client:
        yield client


@pytest.fixture(scope="module")
def writer(endpoint: Endpoint) -> Iterator[Client]:
    with endpoint.client("writer") as client:
        yield client


@pytest.fixture(scope="module")
def admin(endpoint: Endpoint) -> Iterator[Client]:
    with endpoint.client("admin") as client:
        yield client


def world(endpoint: Endpoint, admin: Client) -> tuple[str, list[str]]:
    """All that an attack could have changed: every table's definition and content, functions, files."""
    names = ("records", "bodies", "actors", "checkpoints", "_migrations")
    counts = ", ".join(f"(SELECT (count(), sum(cityHash64(*))) FROM evidence.{name})" for name in names)
    tables = (
        "SELECT database, name, create_table_query FROM system.tables "
        "WHERE lower(database) NOT IN ('system', 'information_schema') ORDER BY database, name"
    )
    statement = (
        f"SELECT (SELECT groupArray(tuple(*)) FROM ({tables})), (SELECT count() FROM system.functions), {counts}"
    )
    files = sorted(f"{path.name} {path.stat().st_size}" for path in endpoint.around.iterdir() if path.is_file())
    return bytes(admin.raw_query(statement, fmt="TSVRaw")).decode(), files


@contextlib.contextmanager
def no_trace(endpoint: Endpoint, admin: Client) -> Iterator[None]:
    before = world(endpoint, admin)
    yield
    assert world(endpoint, admin) == before


def innocent(text: str) -> None:
    for canary in (IN_FILE, IN_TABLE, IN_ENVIRONMENT):
        assert canary not in text


# {canary} is a file the process can read, {out} one that it could write.
FILE = "file('{canary}')"
TABLE_FUNCTIONS = [
    "file('{canary}', 'LineAsString')", "file('{out}', 'CSV', 'a String')", "fileCluster('default', '{canary}')",
    "url('http://127.0.0.1:1/', 'CSV', 'a String')", "urlCluster('default', 'http://127.0.0.1:1/')",
    "s3('http://127.0.0.1:1/x')", "s3Cluster('default', 'http://127.0.0.1:1/x')", "hdfs('hdfs://127.0.0.1:1/x')",
    "gcs('http://127.0.0.1:1/x')", "azureBlobStorage('x')", "iceberg('x')", "deltaLake('x')", "hudi('x')",
    "remote('127.0.0.1', 'evidence', 'records')", "remoteSecure('127.0.0.1', 'evidence', 'records')",
    "cluster('default', evidence.records)", "clusterAllReplicas('default', evidence.records)",
    "merge('evidence', '.*')", "merge('.*')", "loop(evidence.records)", "mergeTreeIndex(evidence, records)",
    "mysql('127.0.0.1', 'a', 'b', 'c', 'd')", "postgresql('127.0.0.1', 'a', 'b', 'c', 'd')",
    "mongodb('127.0.0.1', 'a', 'b', 'c', 'd', 'e')", "redis('127.0.0.1', 'a', 'b')", "sqlite('{canary}', 'a')",
    "jdbc('x', 'y')", "odbc('x', 'y')", "executable('cat {canary}', 'LineAsString', 'a String')",
    "input('a String')", "view(SELECT * FROM evidence.records)", "viewExplain('EXPLAIN', '', (SELECT 1))",
    "viewIfPermitted(SELECT 1 ELSE null('a UInt8'))", "values('a UInt8', 1)", "format(CSV, '1')",
    "numbers(3)", "numbers_mt(3)", "zeros(3)", "generate_series(1, 3)", "generateRandom('a UInt8')", "null('a UInt8')",
    "dictionary('x')", "Python(parameters)", "python('x')",
]  # fmt: skip
STATEMENTS = [
    "INSERT INTO evidence.actors VALUES ('a', 'b', 'c', now())", "INSERT INTO actors SELECT 'a', 'b', 'c', now()",
    "INSERT INTO FUNCTION file('{out}', 'CSV', 'a UInt8') SELECT 1",
    "INSERT INTO evidence.actors FROM INFILE '{canary}' FORMAT CSV",
    "WITH x AS (SELECT 1) INSERT INTO actors SELECT 'a', 'b', 'c', now()",
    "CREATE TABLE evidence.x (a UInt8) ENGINE = Memory", "CREATE VIEW evidence.x AS SELECT * FROM evidence.records",
    "CREATE TEMPORARY TABLE x (a UInt8)", "CREATE FUNCTION f AS x -> x", "CREATE DATABASE x", "CREATE USER x",
    "CREATE OR REPLACE VIEW evidence.reads AS SELECT 1", "CREATE NAMED COLLECTION x AS a = 1",
    "ALTER TABLE evidence.records DELETE WHERE 1", "ALTER TABLE evidence.actors UPDATE name = '' WHERE 1",
    "DELETE FROM evidence.records WHERE 1", "UPDATE evidence.actors SET name = '' WHERE 1",
    "DROP TABLE evidence.records", "DROP VIEW evidence.reads", "DROP DATABASE evidence",
    "TRUNCATE TABLE evidence.records", "RENAME TABLE evidence.records TO evidence.r",
    "EXCHANGE TABLES evidence.records AND evidence.bodies", "OPTIMIZE TABLE evidence.records FINAL",
    "SYSTEM SHUTDOWN", "SYSTEM FLUSH LOGS", "SYSTEM STOP MERGES", "SET readonly = 0", "SET max_threads = 1",
    "USE system", "GRANT ALL ON *.* TO ana", "REVOKE ALL ON *.* FROM ana", "KILL QUERY WHERE 1", "KILL MUTATION WHERE 1",
    "ATTACH TABLE evidence.records", "DETACH TABLE evidence.records", "UNDROP TABLE evidence.x",
    "EXPLAIN SELECT 1", "EXPLAIN AST SELECT 1", "EXPLAIN PLAN SELECT * FROM evidence.records",
    "EXPLAIN ESTIMATE SELECT * FROM evidence.records", "SELECT * FROM (EXPLAIN SELECT 1)",
    "DESCRIBE TABLE evidence.reads", "DESCRIBE TABLE file('{canary}')", "DESC evidence.records", "SHOW TABLES",
    "SHOW CREATE TABLE evidence.records", "SHOW PROCESSLIST", "SHOW GRANTS", "SHOW SETTINGS LIKE '%'",
    "EXISTS TABLE evidence.records", "CHECK TABLE evidence.records", "WATCH evidence.reads",
    "BACKUP TABLE evidence.records TO File('{out}')", "RESTORE TABLE evidence.records FROM File('{out}')",
    "BEGIN TRANSACTION", "COMMIT", "EXECUTE AS admin SELECT 1", "TABLE evidence.records", "VALUES (1)",
    "FROM evidence.records SELECT leaf", "", "   ", ";", "-- nothing", "/* not closed", "SELECT", "SELECT (",
]  # fmt: skip
TWO_STATEMENTS = [
    "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE evidence.records", "SELECT 1 /* ; */", "SELECT 1 -- ;\n, 2",
    "SELECT ';'", "SELECT $a$ ; $a$", "SELECT 1;; DROP TABLE evidence.records", "SELECT 1;\nDROP TABLE evidence.records;",
    "SELECT 1 AS `;`", "SELECT '\\'; DROP TABLE evidence.records -- '",
]  # fmt: skip
# `EXPLAIN AST` in front of these would act instead of explain.
WHILE_EXPLAINED = [
    ", CAST(" + FILE + " AS Int32) FROM (SELECT 1 AS EXPLAIN)",
    ", CAST(file('/proc/self/environ') AS Int32) FROM (SELECT 1 AS EXPLAIN)",
    ", (SELECT CAST(name AS Int32) FROM evidence.actors LIMIT 1) FROM (SELECT 1 AS EXPLAIN)",
    "-- SELECT\n, CAST(" + FILE + " AS Int32) FROM (SELECT 1 AS EXPLAIN)",
    "/* SELECT */, CAST(" + FILE + " AS Int32) FROM (SELECT 1 AS EXPLAIN)",
    "# SELECT\n, CAST(" + FILE + " AS Int32) FROM (SELECT 1 AS EXPLAIN)",
    "+ CAST(" + FILE + " AS Int32) FROM (SELECT 1 AS EXPLAIN, 2 AS AST)",
    "(SELECT 1), CAST(" + FILE + " AS Int32) FROM (SELECT 1 AS EXPLAIN)",
    "SELECT 1 FORMAT Null INTO OUTFILE '{out}'",
    "SELECT 1 FORMAT Null INTO OUTFILE '{out}' TRUNCATE",
    "SELECT 1 FORMAT Null INTO OUTFILE '{canary}' APPEND",
    "SELECT 1 FORMAT Null INTO/**/outfile '{canary}' TRUNCATE",
    "SELECT 1 FORMAT Null SETTINGS readonly = 0 INTO OUTFILE '{out}'",
]
CLAUSES = [
    "SELECT 1 INTO OUTFILE '{out}'", "SELECT 1 INTO OUTFILE '{out}' FORMAT CSV", "SELECT 1 INTO OUTFILE '{out}' APPEND",
    "SELECT 1 INTO OUTFILE '{out}' AND STDOUT", "SELECT 1 SETTINGS max_threads = 1", "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0 FORMAT JSON", "SELECT 1 FORMAT JSON SETTINGS readonly = 0",
    "SELECT * FROM (SELECT 1 SETTINGS readonly = 0)", "WITH x AS (SELECT 1 SETTINGS readonly = 0) SELECT * FROM x",
    "SELECT 1 FORMAT SQLInsert", "SELECT 1 FORMAT Template", "SELECT 1 FORMAT JSON FORMAT CSV", "SELECT 1 FORMAT Nothing",
]  # fmt: skip
BASE_TABLES = [
    *(f"SELECT * FROM {name}" for name in (
        "records", "bodies", "actors", "checkpoints", "sealed_parts", "_migrations", "_entries", "_names",
        "evidence.records", "evidence._entries", "evidence._names", "evidence._migrations", "`records`", '"records"',
        "`evidence`.`records`", '"evidence"."records"', "`evidence.records`", "evidence . records", "evidence./**/records",
        "system.one", "system.tables", "system.columns", "system.functions", "system.processes", "system.query_log",
        "system.users", "system.settings_profiles", "system.build_options", "information_schema.tables",
        "INFORMATION_SCHEMA.TABLES", "information_schema.columns", "default.x", "evidence.nothing", "nothing",
        "EVIDENCE.records", "records AS reads", "{{t:Identifier}}", "evidence.{{t:Identifier}}", "evidence.{{u:Identifier}}",
    )),
    "SELECT 1 WHERE 1 IN records", "SELECT 1 WHERE 1 IN evidence.records", "SELECT 1 WHERE 1 IN (records)",
    "SELECT 1 WHERE 1 IN `records`", "SELECT 1 WHERE 1 NOT IN records", "SELECT 1 WHERE 1 GLOBAL IN records",
    "SELECT in(1, records)", "SELECT globalNotIn(1, records)", "SELECT notNullIn(1, evidence.records)",
    "SELECT inIgnoreSet(1, records)", "SELECT 1 WHERE 1 IN {{t:Identifier}}", "SELECT 1 WHERE 1 IN reads",
    "SELECT 1 WHERE tuple(1) IN tuple(records)",
    "SELECT * FROM reads JOIN records ON 1 = 1", "SELECT * FROM reads, records", "SELECT * FROM reads CROSS JOIN records",
    "SELECT * FROM reads LEFT JOIN evidence.records USING (idx)", "SELECT * FROM reads ASOF JOIN records USING (at, idx)",
    "SELECT (SELECT leaf FROM records LIMIT 1)", "SELECT * FROM (SELECT * FROM records)",
    "WITH records AS (SELECT 1) SELECT * FROM records", "WITH records AS (SELECT 1) SELECT * FROM evidence.records",
    "WITH records AS (SELECT * FROM records) SELECT * FROM records", "WITH x AS (SELECT * FROM records) SELECT 1",
    "WITH x AS (SELECT * FROM records) SELECT * FROM x", "WITH (SELECT max(leaf) FROM records) AS x SELECT x",
    "WITH RECURSIVE x AS (SELECT 1 AS a UNION ALL SELECT 2 FROM records) SELECT * FROM x",
    "SELECT 1 UNION ALL SELECT count() FROM records", "SELECT 1 INTERSECT SELECT count() FROM records",
    "SELECT 1 EXCEPT SELECT count() FROM records", "SELECT exists(SELECT 1 FROM records)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM records)", "SELECT 1 = ANY (SELECT count() FROM records)",
    "SELECT 1 ORDER BY (SELECT count() FROM records)", "SELECT 1 LIMIT (SELECT count() FROM records)",
    "SELECT 1 GROUP BY (SELECT count() FROM records)", "SELECT idx FROM reads WHERE idx IN (SELECT idx FROM records)",
    "SELECT records.leaf FROM reads", "SELECT evidence.records.leaf", "SELECT {{t:Identifier}}.leaf FROM reads",
    "SELECT leaf FROM reads", "SELECT _part FROM reads", "SELECT * FROM reads SAMPLE 1 / 2 JOIN records ON 1",
]  # fmt: skip
FUNCTIONS = [
    FILE, "file('/proc/self/environ')", "FILE('{canary}')", "`file`('{canary}')", '"file"(\'{canary}\')',
    "file /* */ ('{canary}')", "CAST(" + FILE + " AS String)", FILE + "::String", "[" + FILE + "][1]",
    "(" + FILE + ", 1).1", "CASE WHEN " + FILE + " = '' THEN 1 ELSE 2 END", "{{f:Identifier}}('{canary}')",
    "arrayMap(x -> file(x), ['{canary}'])", "arrayFold((a, b) -> file(b), ['{canary}'], '')",
    "arrayReduce('file', ['{canary}'])", "transform(1, [1], ['a'], " + FILE + ")", "fileIf('{canary}', 1)",
    "fileArrayOrNull(['{canary}'])", "sleepIf(1, 1)", "sumIfSleep(1)", "countFile()", "getSettingOrDefault('readonly', 1)",
    "dictGet('x', 'y', 1)", "dictHas('x', 1)", "joinGet('records', 'leaf', 1)", "joinGetOrNull('records', 'leaf', 1)",
    "getSetting('readonly')", "getServerSetting('x')", "getMergeTreeSetting('x')", "getMacro('x')", "getServerPort('x')",
    "getClientHTTPHeader('Authorization')", "hostName()", "hostname()", "FQDN()", "tcpPort()", "serverUUID()", "uptime()",
    "currentUser()", "user()", "currentDatabase()", "queryID()", "connectionId()", "buildId()", "currentProfiles()",
    "filesystemAvailable()", "filesystemCapacity()", "getOSKernelVersion()", "showCertificate()", "sleep(1)",
    "sleepEachRow(1)", "evalMLMethod(1, 2)", "catboostEvaluate('{canary}', 1)", "aiGenerate('x')",
    "aiGenerateContent('x')", "aiGenerateSQL('x')", "aiClassify('x', ['a'])", "aiExtract('x', 'a')", "aiEmbed('x')",
    "aiTranslate('x', 'en')", "naiveBayesClassifier('x', 'y')", "regionToName(1)", "lemmatize('en', 'x')",
    "addressToLine(1)", "addressToSymbol(1)", "demangle('x')", "flameGraph([1])", "hasColumnInTable('evidence', 'records', 'leaf')",
    "throwIf(1)", "structureToProtobufSchema('a UInt8')", "initializeAggregation('sum', 1)", "runningAccumulate(1)",
    "rowNumberInAllBlocks()", "neighbor(1, 1)", "zookeeperSessionUptime()", "nothing()",
]  # fmt: skip
PLACES = [
    "SELECT 1 AS n ORDER BY n WITH FILL FROM length(" + FILE + ") TO 3",
    "SELECT 1 AS n ORDER BY n WITH FILL TO 3 STEP length(" + FILE + ")",
    "SELECT 1 AS n, 'a' AS s ORDER BY n WITH FILL TO 3 INTERPOLATE (s AS " + FILE + ")",
    "SELECT 1 LIMIT length(" + FILE + ")", "SELECT 1 LIMIT 1 OFFSET length(" + FILE + ")",
    "SELECT 1 LIMIT 1 BY " + FILE, "SELECT 1 AS x QUALIFY " + FILE + " != ''", "SELECT 1 GROUP BY " + FILE,
    "SELECT 1 HAVING " + FILE + " != ''", "SELECT 1 WHERE " + FILE + " != ''", "SELECT 1 PREWHERE " + FILE + " != ''",
    "SELECT 1 ORDER BY " + FILE, "SELECT sum(1) OVER (PARTITION BY " + FILE + ")",
    "SELECT sum(1) OVER (ORDER BY " + FILE + ")", "SELECT sum(1) OVER w WINDOW w AS (ORDER BY " + FILE + ")",
    "SELECT sum(1) OVER (ROWS BETWEEN length(" + FILE + ") PRECEDING AND CURRENT ROW)",
    "SELECT x FROM reads ARRAY JOIN [" + FILE + "] AS x", "SELECT 1 FROM reads AS a JOIN reads AS b ON " + FILE + " != ''",
    "SELECT * REPLACE (" + FILE + " AS path) FROM reads", "SELECT COLUMNS('path') REPLACE (" + FILE + " AS path) FROM reads",
    "SELECT * APPLY(file) FROM reads", "SELECT * APPLY(toString) FROM reads", "SELECT * APPLY(x -> file(x)) FROM reads",
    "SELECT COLUMNS('path') APPLY(toString) APPLY(file) FROM reads", "SELECT quantile(length(" + FILE + "))(1)",
    "WITH " + FILE + " AS x SELECT x", "WITH (a) -> file(a) AS f SELECT f('{canary}')",
    "WITH x -> file(x) AS length SELECT length('{canary}')", "SELECT 1 FROM reads SAMPLE length(" + FILE + ")",
    "SELECT (SELECT " + FILE + ")", "SELECT 1 UNION ALL SELECT length(" + FILE + ")", "SELECT 1 IN (" + FILE + ")",
]  # fmt: skip
# The lambda's name says that its node has two children; its argument's name gives IN a harmless right-hand side
# and a second child in which the table's name then stands.
LAMBDA = "upper (children 2)\n     Identifier x"
FORGED_NODES = [
    "SELECT `upper (children 2)\n     ExpressionList`(1)",
    f"WITH x -> x AS `{LAMBDA}` SELECT `{LAMBDA}`(1 IN (1))",
    f"WITH x -> x AS `{LAMBDA}` SELECT `{LAMBDA}`(`a\n       Literal 1\n     ExpressionList` IN records)",
    "SELECT `upper \\x28children 2)\n     ExpressionList`(1)",
    "SELECT `a\n     Set`", "SELECT 1 AS `x\n Set`", "SELECT `a (children 1)\n      Literal 1`",
    "SELECT 1 AS `a)\n    Identifier b`, " + FILE, "SELECT * FROM `reads\n      TableIdentifier records`",
    "SELECT * FROM `reads (children 1)\n       Literal 1`",
    "SELECT `x\n    Function upper (children 1)\n     ExpressionList (children 1)\n      Literal 'x'`",
    "SELECT upper(`a\n     ExpressionList (children 1)\n      Identifier b`, " + FILE + ")",
    # One node less and a forged one in its place: the counts agree, what is left out does not.
    "SELECT upper(`a\n      Identifier b`), " + FILE, "SELECT 1 AS `x\n    Identifier y` FROM records",
    "SELECT * FROM `reads\n   ExpressionList (children 1)\n    Identifier x`, records",
    "SELECT `x (children 1)\n     ExpressionList`, " + FILE, "SELECT `a\r\n    Identifier b`, " + FILE,
    "SELECT `a\u2028    Identifier b`, " + FILE, "SELECT '\n    Identifier b', " + FILE,
    "SELECT 1 AS `(alias x)\n    Literal 2`, " + FILE, "SELECT `\n`", "SELECT * FROM reads AS `a\n      Set`",
]  # fmt: skip
ESCAPES = {
    **{f"table function {q}": f"SELECT * FROM {q}" for q in TABLE_FUNCTIONS},
    **{f"in a join {q}": f"SELECT * FROM reads JOIN {q} AS x ON 1 = 1" for q in TABLE_FUNCTIONS[:3]},
    **{f"statement {q}": q for q in STATEMENTS},
    **{f"two {q}": q for q in TWO_STATEMENTS},
    **{f"while explained {q}": q for q in WHILE_EXPLAINED},
    **{f"clause {q}": q for q in CLAUSES},
    **{f"table {q}": q for q in BASE_TABLES},
    **{f"function {q}": f"SELECT {q}" for q in FUNCTIONS},
    **{f"place {q}": q for q in PLACES},
    **{f"forged {q}": q for q in FORGED_NODES},
}


@pytest.mark.parametrize("attack", ESCAPES.values(), ids=[name.encode("unicode_escape").decode() for name in ESCAPES])
def test_an_auditors_escape_is_refused_and_leaves_no_trace(
    endpoint: Endpoint, auditor: Client, admin: Client, attack: str
) -> None:
    parameters = {"t": "records", "u": "records", "f": "file"}
    statement = attack.format(canary=endpoint.canary, out=endpoint.out)
    with no_trace(endpoint, admin):
        with pytest.raises(ClickHouseError) as refused:
            # Asked for raw, so that nothing of clickhouse-connect rewrites the statement.
            auditor.raw_query(statement, parameters=parameters if ":Identifier}" in statement else None)
        innocent(str(refused.value))
        answer = endpoint.post(statement.encode(), **{f"param_{name}": value for name, value in parameters.items()})
        assert answer.status_code in (400, 403, 404)
        assert "DB::Exception" in answer.text
        innocent(answer.text)


@pytest.mark.parametrize(
    "name",
    [
        "max_execution_time", "max_memory_usage", "max_result_bytes", "max_threads", "readonly", "implicit_select",
        "allow_ddl", "insert_deduplication_token", "param", "profile", "quota_key", "query_cache", "MAX_THREADS", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("user", ["ana", "writer"])
def test_a_setting_as_a_parameter_of_the_address_is_refused(endpoint: Endpoint, user: str, name: str) -> None:
    assert endpoint.post(b"SELECT 1", user).text == "1\n"
    answer = endpoint.post(b"SELECT 1", user, **{name: "0"})
    assert answer.status_code == 403
    assert "cannot be set by clients" in answer.text


def test_settings_of_the_client_library_are_refused(auditor: Client) -> None:
    with pytest.raises(ClickHouseError):
        auditor.query("SELECT 1", settings={"max_execution_time": 0})
    with pytest.raises(ClickHouseError):
        auditor.command("SELECT 1", settings={"readonly": 0})


def test_only_the_one_database_can_be_named(endpoint: Endpoint) -> None:
    assert endpoint.post(b"SELECT count() FROM reads", database="evidence").text == "10\n"
    assert endpoint.post(b"SELECT 1", database="information_schema").status_code == 403


def test_an_auditor_writes_nothing_with_the_clients_own_insert(
    endpoint: Endpoint, auditor: Client, admin: Client
) -> None:
    with no_trace(endpoint, admin):
        for table in ("actors", "records", "reads", "_migrations"):
            with pytest.raises(ClickHouseError):
                auditor.insert(table, [("x",)], column_names=["name"], column_type_names=["String"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-ClickHouse-User": "ana"},
        {"X-ClickHouse-User": "ana", "X-ClickHouse-Key": "wrong"},
        {"X-ClickHouse-User": "ana", "X-ClickHouse-Key": ""},
        {"X-ClickHouse-User": "nobody", "X-ClickHouse-Key": ""},
        {"X-ClickHouse-User": "", "X-ClickHouse-Key": ""},
        {"X-ClickHouse-User": "default", "X-ClickHouse-Key": ""},
        {"X-ClickHouse-User": "admin", "X-ClickHouse-Key": PASSWORDS["ana"]},
        {"X-ClickHouse-User": "ana", "X-ClickHouse-Key": hashlib.sha256(PASSWORDS["ana"].encode()).hexdigest()},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!!"},
        {"Authorization": "Basic YW5h"},
        {"Authorization": "Basic /w=="},
        {"Authorization": "Basic " + base64.b64encode(b"ana:wrong").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"ana:ana-pw\n").decode()},
        {"Authorization": "Bearer " + PASSWORDS["ana"]},
        # A broken header is not passed over in favour of a right one.
        {"Authorization": "Basic !!!!", "X-ClickHouse-User": "ana", "X-ClickHouse-Key": PASSWORDS["ana"]},
    ],
)
def test_who_does_not_prove_who_they_are_is_refused(endpoint: Endpoint, headers: dict[str, str]) -> None:
    answer = endpoint.http.post(endpoint.url, content=b"SELECT 1", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["X-ClickHouse-Exception-Code"] == "516"
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_password_in_the_address_is_no_proof(endpoint: Endpoint) -> None:
    answer = endpoint.http.post(endpoint.url, content=b"SELECT 1", params={"user": "ana", "password": PASSWORDS["ana"]})
    assert answer.status_code == 401


@pytest.mark.parametrize(("user", "password"), [("ana", "wrong"), ("nobody", "ana-pw"), ("default", "x")])
def test_the_client_library_gets_no_connection_without_the_password(
    endpoint: Endpoint, user: str, password: str
) -> None:
    with pytest.raises(ClickHouseError, match="516"):
        endpoint.client(user, password)


def test_headers_of_clickhouse_are_as_good_as_basic(endpoint: Endpoint) -> None:
    headers = {"X-ClickHouse-User": "ana", "X-ClickHouse-Key": PASSWORDS["ana"]}
    assert endpoint.http.post(endpoint.url, content=b"SELECT 1", headers=headers).text == "1\n"


@pytest.mark.parametrize(
    "body",
    [
        b"SELECT '" + b"x" * 300_000 + b"'",
        b"SELECT 1" + b" " * 300_000 + b", 2",
        b"SELECT 1\0",
        b"SELECT '\0'",
        b"SELECT 1 -- \0; DROP TABLE evidence.records",
        b"SELECT '\xff'",
        b"SELECT " + b"(" * 2_000 + b"1" + b")" * 2_000,
        b"SELECT " + b"(" * 120_000 + b"1" + b")" * 120_000,
        b"(" * 50_000 + b"SELECT 1" + b")" * 50_000,
        b"SELECT " + b"[" * 50_000 + b"1" + b"]" * 50_000,
        b"SELECT 1" + b"+1" * 100_000,
        b"SELECT " + b"NOT " * 50_000 + b"1",
        b"SELECT * FROM " + b"(SELECT * FROM " * 3_000 + b"reads" + b")" * 3_000,
        b"/*" * 100_000 + b"SELECT 1",
        b"--\n" * 80_000,
    ],
    ids=lambda body: f"{body[:12]!r} {len(body)}",
)
def test_a_monstrous_query_is_refused_and_the_next_one_works(endpoint: Endpoint, body: bytes) -> None:
    answer = endpoint.post(body)
    assert answer.status_code in (400, 403)
    assert "DB::Exception" in answer.text
    assert endpoint.post(b"SELECT count() FROM reads").text == "10\n"


def test_a_query_in_the_address_is_judged_like_one_in_the_body(endpoint: Endpoint) -> None:
    auth = ("ana", PASSWORDS["ana"])

    def get(query: str) -> httpx.Response:
        return endpoint.http.get(endpoint.url, params={"query": query}, auth=auth)

    assert get("SELECT count() FROM reads").text == "10\n"
    assert get("SELECT * FROM records").status_code == 403
    # Half in the address and half in the body is one query, judged whole.
    joined = endpoint.post(b"FROM records", query="SELECT count()")
    assert joined.status_code == 403
    assert endpoint.post(b"FROM reads", query="SELECT count()").text == "10\n"


# What auditors need.


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT count() FROM reads WHERE at >= '2026-11-23 08:10:00' AND requester_sub = 'alice'", [(5,)]),
        ("SELECT r.idx, b.idx FROM reads AS r JOIN baseline AS b ON b.idx = r.idx + 1 ORDER BY r.idx LIMIT 1", [(0, 1)]),
        ("WITH late AS (SELECT idx FROM reads WHERE idx > 15) SELECT idx FROM late ORDER BY idx", [(16,), (18,)]),
        ("WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n WHERE a < 3) SELECT max(a) FROM n", [(3,)]),
        ("SELECT idx, row_number() OVER (PARTITION BY target ORDER BY idx) FROM baseline ORDER BY idx LIMIT 2",
         [(1, 1), (3, 2)]),
        (("SELECT sum(version) OVER w FROM baseline WINDOW w AS (ORDER BY idx ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) "
         "ORDER BY idx LIMIT 2"), [(1,), (4,)]),
        ("SELECT arrayMap(x -> x * 2, arraySort(groupArray(idx))) FROM reads WHERE idx < 4", [([0, 4],)]),
        ("SELECT arrayJoin(splitByChar('-', subject)) AS part FROM reads WHERE idx = 0", [("subject",), ("0",)]),
        ("SELECT p FROM reads ARRAY JOIN [1, 2] AS p WHERE idx = 0 ORDER BY p", [(1,), (2,)]),
        ("SELECT countIf(idx > 10), uniqExact(subject), sumIf(idx, idx < 4), argMax(subject, idx) FROM reads",
         [(4, 10, 2, "subject-18")]),
        ("SELECT toStartOfHour(at) AS hour, count() FROM reads GROUP BY hour HAVING count() > 1", [(AT, 10)]),
        ("SELECT idx FROM reads WHERE idx IN (2, 4) AND subject IN (SELECT subject FROM reads WHERE idx < 4)", [(2,)]),
        ("SELECT items FROM population_by_period WHERE population = 'reads'", [(10,)]),
        (("SELECT * EXCEPT (at, target, path, status, registered_again, operation, requester_iss, requester_name) "
         "FROM evidence.reads ORDER BY idx LIMIT 1"), [(0, "subject-0", "alice")]),
        ("-- how many\n/* of them */ SELECT count() FROM `evidence`.`baseline`;", [(10,)]),
        ("(SELECT 1) UNION ALL (SELECT 1)", [(1,), (1,)]),
        ("SELECT JSONExtractString('{\"a\": \"b\"}', 'a'), match('abc', 'b'), if(1, 'x', 'y'), 1::String", [("b", 1, "x", "1")]),
    ],
)  # fmt: skip
def test_an_auditor_asks_in_plain_sql(auditor: Client, statement: str, expected: list[tuple[Any, ...]]) -> None:
    found = [
        tuple(v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row)
        for row in auditor.query(statement).result_rows
    ]
    assert found == expected


def test_parameters_of_every_type_are_bound_as_values(auditor: Client) -> None:
    statement = (
        "SELECT {s:String} AS s, {a:Array(String)} AS a, {d:DateTime64(3, 'UTC')} AS d, {n:UInt64} AS n, count() "
        "FROM reads WHERE subject IN {a:Array(String)} AND idx < {n:UInt64} AND at >= {d:DateTime64(3, 'UTC')}"
    )
    hostile = "it's; \\ \t\n -- /* FORMAT CSV {x:String} INTO OUTFILE"
    wanted = ["subject-2", "subject-4", hostile]
    moment = AT + timedelta(minutes=1, milliseconds=5)
    (row,) = auditor.query(statement, parameters={"s": hostile, "a": wanted, "d": moment, "n": 2**64 - 1}).result_rows
    assert (row[0], row[1], row[3], row[4]) == (hostile, wanted, 2**64 - 1, 2)
    assert row[2].replace(tzinfo=UTC) == moment


def test_results_come_in_the_formats_that_tools_read(auditor: Client) -> None:
    statement = "SELECT idx, subject FROM reads ORDER BY idx LIMIT 2"
    assert bytes(auditor.raw_query(statement, fmt="CSV")) == b'0,"subject-0"\n2,"subject-2"\n'
    # As ClickHouse does by default, 64-bit numbers in JSON are numbers or quoted: both say the same.
    rows_of_json = json.loads(bytes(auditor.raw_query(statement, fmt="JSON")))["data"]
    assert [(int(row["idx"]), row["subject"]) for row in rows_of_json] == [(0, "subject-0"), (2, "subject-2")]
    parquet = bytes(auditor.raw_query(statement, fmt="Parquet"))
    assert (parquet[:4], parquet[-4:]) == (b"PAR1", b"PAR1")
    native = bytes(auditor.raw_query(statement, fmt="Native"))
    # Two columns, two rows; the first column's name and type.
    assert native.startswith(b"\x02\x02\x03idx\x06UInt64")
    assert bytes(auditor.raw_query(statement + " FORMAT TSVWithNames")).startswith(b"idx\tsubject\n0\tsubject-0\n")


def test_200_queries_at_a_time_are_all_answered_right(endpoint: Endpoint) -> None:
    def ask(number: int) -> str:
        return endpoint.post(f"SELECT {number} + count() FROM reads".encode()).text

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(ask, range(200))) == [f"{number + 10}\n" for number in range(200)]


# A big product over a view: hours, if nobody ended it.
SLOW = (
    "SELECT sum(cityHash64(a.n, b.n, {tag:String})) FROM "
    "(SELECT idx, arrayJoin(range(20000)) AS n FROM reads) AS a CROSS JOIN "
    "(SELECT idx, arrayJoin(range(20000)) AS n FROM reads) AS b"
)


def running_queries(admin: Client) -> int:
    text = "SELECT count() FROM system.processes WHERE query LIKE '%cityHash64(a.n%' AND query NOT LIKE '%processes%'"
    return int(bytes(admin.raw_query(text, fmt="TSV")))


def insert(writer: Client, index: int, token: str) -> None:
    data = leaf.build(
        leaf_id=f"beside-{index}", kind="act.read", at=AT, source=leaf.Source("acts.observed", 1, index), facts={}
    )
    writer.insert(
        "records",
        [("log.example/beside", index, data, leaf_hash(data))],
        column_names=["log", "idx", "leaf", "leaf_hash"],
        column_type_names=["LowCardinality(String)", "UInt64", "String", "FixedString(32)"],
        settings={"insert_deduplication_token": token},
    )


@pytest.mark.parametrize("how_many", [1, 60])
def test_slow_audit_queries_do_not_delay_an_insert(
    endpoint: Endpoint, writer: Client, admin: Client, how_many: int
) -> None:
    """60 are more than the server's own threads: those that wait must not stand before the insert."""
    answers: list[httpx.Response] = []
    stopping = threading.Event()

    def slow() -> None:
        if not stopping.is_set():
            answers.append(endpoint.post(SLOW.encode(), param_tag="x"))

    threads = [threading.Thread(target=slow) for _ in range(how_many)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: running_queries(admin) >= min(how_many, 4), "the slow queries' start")
        insert(writer, 0, "warm")
        took = []
        for index in range(1, 6):
            began = time.monotonic()
            insert(writer, index, f"beside/{how_many}-{index}")
            took.append(time.monotonic() - began)
        assert running_queries(admin) > 0, "the slow queries ended before the inserts: nothing was shown"
        assert not answers
    finally:
        stopping.set()
        while any(thread.is_alive() for thread in threads):
            admin.command(
                "KILL QUERY WHERE query LIKE '%cityHash64(a.n%' AND query NOT LIKE '%KILL%' "
                "AND query NOT LIKE 'EXPLAIN%'"
            )
            threads[0].join(0.05)
            threads[-1].join(0.05)
    assert sorted(took)[2] < 1.0, took
    assert {answer.status_code for answer in answers} == {400}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (("SELECT length(groupArray(concat(subject, repeat('x', 900), toString(n)))) FROM "
         "(SELECT subject, arrayJoin(range(1000000)) AS n FROM reads)"), 241),
        ("SELECT range(idx * 100000000000) FROM reads", 69),
        ("SELECT repeat('x', 2000000000)", 131),
    ],
)  # fmt: skip
def test_a_query_that_wants_too_much_memory_is_ended_by_the_server(
    endpoint: Endpoint, statement: str, code: int
) -> None:
    answer = endpoint.post(statement.encode())
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (400, str(code))
    assert endpoint.post(b"SELECT count() FROM reads").text == "10\n"


def test_a_query_that_takes_too_long_is_ended_by_the_server(endpoint: Endpoint) -> None:
    began = time.monotonic()
    answer = endpoint.post(SLOW.encode(), param_tag="y")
    assert answer.headers["X-ClickHouse-Exception-Code"] == "159"
    assert 25 < time.monotonic() - began < 60


# The writer.


def test_a_repeated_block_changes_nothing(writer: Client, admin: Client) -> None:
    def count() -> int:
        text = "SELECT count() FROM records WHERE log = 'log.example/beside' AND idx = 100"
        return int(bytes(writer.raw_query(text, fmt="TSV")))

    for _ in range(3):
        insert(writer, 100, "beside/100")
        assert count() == 1
    insert(writer, 100, "beside/other")
    assert count() == 2, "another token is another block: it is the token that makes a repeat"


WRITERS_ESCAPES = [
    *STATEMENTS, *TWO_STATEMENTS, *WHILE_EXPLAINED, *CLAUSES, "SELECT " + FILE, "SELECT hostName()", "SELECT getSetting('readonly')",
    *(f"SELECT * FROM {q}" for q in TABLE_FUNCTIONS), "SELECT * FROM system.tables", "SELECT 1 WHERE 1 IN records",
]  # fmt: skip


def test_the_writer_neither_changes_what_stands_nor_reaches_out(
    endpoint: Endpoint, writer: Client, admin: Client
) -> None:
    for attack in WRITERS_ESCAPES:
        statement = attack.format(canary=endpoint.canary, out=endpoint.out)
        with no_trace(endpoint, admin), pytest.raises(ClickHouseError) as refused:
            writer.raw_query(statement)
        innocent(str(refused.value))


@pytest.mark.parametrize("table", ["_migrations", "_entries", "reads", "nothing", "RECORDS"])
def test_the_writer_inserts_into_evidence_only(endpoint: Endpoint, writer: Client, admin: Client, table: str) -> None:
    with no_trace(endpoint, admin), pytest.raises(ClickHouseError):
        writer.insert(table, [("x", "y")], column_names=["name", "sha256"], column_type_names=["String", "String"])


@pytest.mark.parametrize("token", ["a'b", "a' SETTINGS readonly = 0 --", "", "x" * 201, "a\nb"])
def test_a_token_is_only_a_token(endpoint: Endpoint, writer: Client, admin: Client, token: str) -> None:
    body = b"INSERT INTO evidence.records (`log`) FORMAT Native\n\x01\x01\x03log\x06String\x01x"
    with no_trace(endpoint, admin):
        assert endpoint.post(body, "writer", insert_deduplication_token=token).status_code == 403


def test_an_insert_cut_off_leaves_nothing(endpoint: Endpoint, admin: Client) -> None:
    body = b"INSERT INTO evidence.records (`log`) FORMAT Native\n\x01\x01\x03log\x06String\x05x"
    with no_trace(endpoint, admin):
        assert endpoint.post(body, "writer").status_code == 400


def test_no_secret_stands_in_the_process_environment(endpoint: Endpoint) -> None:
    environment = (Path("/proc") / str(endpoint.pid) / "environ").read_bytes()
    names = {entry.partition(b"=")[0].decode() for entry in environment.split(b"\0") if entry}
    assert "PATH" in names
    assert names <= {"PATH", "LANG", "TMPDIR"}
    assert IN_ENVIRONMENT.encode() not in environment
