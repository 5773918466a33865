"""The evidence store on the engine itself: migrations, what comes back of what went in, views, exports."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemaseal.contracts import leaf
from schemaseal.contracts.events import Body, LogCheckpoint, Person, SealedPart
from schemaseal.core.errors import EvidenceMismatch, SchemasealError, StoreUnavailable
from schemaseal.core.settings import ClickHouseSettings
from schemaseal.evidence import store as store_module
from schemaseal.evidence.export import export_log
from schemaseal.evidence.sequencer import Position, Row, check_stored, sign_checkpoint
from schemaseal.evidence.store import COLUMNS, EvidenceStore, migration_files, statements
from schemaseal.tlog.merkle import CompactRange, leaf_hash
from schemaseal.tlog.note import Signer
from schemaseal.verify import verify_export

PASSWORDS = {"admin": "admin-pw", "writer": "writer-pw", "ana": "ana-pw"}
ROLES = {"admin": "admin", "writer": "writer", "ana": "auditor"}
AT = datetime(2026, 11, 23, 8, 0, 0, 123000, UTC)
IDP = "https://idp.example"
SEED = b"S" * 32


@dataclass
class Server:
    """The endpoint as a child process; `start` again serves the same data on the same port."""

    around: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "schemaseal.devstack.clickhouse", "--port", str(self.port)]
        command += ["--data", str(self.around / "data"), "--users", str(self.around / "users.json")]
        self.process = subprocess.Popen(command, cwd=self.around)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, "the endpoint ended at its start"
            assert time.monotonic() < deadline, "the endpoint did not start in 60 s"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ping", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, *, kill: bool = False) -> None:
        if self.process is None:
            return
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.process = None

    def client(self, user: str) -> Client:
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, username=user, password=PASSWORDS[user], database="evidence",
            compress=False, autogenerate_session_id=False,
        )  # fmt: skip

    def store(self) -> EvidenceStore:
        addresses = ClickHouseSettings(records_url=self.url, sealed_url=self.url)
        return EvidenceStore.connect(addresses, PASSWORDS["writer"])


def make_server(around: Path) -> Server:
    users = {
        name: {"password_sha256": hashlib.sha256(PASSWORDS[name].encode()).hexdigest(), "role": role}
        for name, role in ROLES.items()
    }
    (around / "users.json").write_text(json.dumps(users))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Server(around, probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = make_server(tmp_path_factory.mktemp("store"))
    try:
        made.start()
        with_tables = made.store()
        with_tables.migrate(PASSWORDS["admin"])
        with_tables.close()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def store(server: Server) -> Iterator[EvidenceStore]:
    opened = server.store()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[Client]:
    with server.client("admin") as client:
        yield client


@pytest.fixture(scope="module")
def auditor(server: Server) -> Iterator[Client]:
    with server.client("ana") as client:
        yield client


@dataclass
class Log:
    """A log built by hand: its leaves in order, and the rows and checkpoint that stand for them."""

    origin: str
    leaves: list[bytes] = field(default_factory=list)

    def add(self, kind: str, facts: dict[str, Any], **more: Any) -> int:
        """The index of a new leaf, a minute after the one before. `more` goes to `leaf.build`."""
        index = len(self.leaves)
        values: dict[str, Any] = {
            "leaf_id": f"{self.origin}-{index}",
            "at": AT + timedelta(minutes=index),
            "source": leaf.Source("acts.observed", index % 3, index),
            "target": "orders",
        } | more
        self.leaves.append(leaf.build(kind=kind, facts=facts, **values))
        return index

    def rows(self, first: int = 0, last: int | None = None) -> tuple[Row, ...]:
        rows = [Row(index, data, leaf_hash(data)) for index, data in enumerate(self.leaves)]
        return tuple(rows[first:last])

    def checkpoint(self, size: int | None = None) -> LogCheckpoint:
        hashes = [leaf_hash(data) for data in self.leaves[:size]]
        position = Position(CompactRange.empty().extend(hashes), len(hashes))
        return sign_checkpoint(self.origin, position, self.signer, AT)

    @property
    def signer(self) -> Signer:
        return Signer.from_seed(self.origin, SEED)


def small(origin: str, count: int = 5) -> Log:
    log = Log(origin)
    for index in range(count):
        log.add("act.read", {"subject": f"s{index} — „ü“ \t\n\\", "operation": "read", "path": "/subjects"})
    return log


# Migrations.


def test_migrating_twice_changes_nothing(store: EvidenceStore, admin: Client) -> None:
    def state() -> tuple[Any, ...]:
        tables = "SELECT name, create_table_query FROM system.tables WHERE database = 'evidence' ORDER BY name"
        applied = "SELECT name, sha256 FROM evidence._migrations ORDER BY name"
        return admin.query(tables).result_rows, admin.query(applied).result_rows

    before = state()
    store.migrate(PASSWORDS["admin"])
    assert state() == before
    names = [name for name, _ in before[1]]
    assert names == sorted(name for folder in ("records", "sealed") for name, _ in migration_files(folder))


def test_a_migration_applied_half_way_is_applied_again_whole(tmp_path: Path) -> None:
    """A crash between its statements leaves some of them done and the file not recorded."""
    server = make_server(tmp_path)
    try:
        server.start()
        with clickhouse_connect.get_client(
            host="127.0.0.1", port=server.port, username="admin", password=PASSWORDS["admin"], database="default",
            compress=False, autogenerate_session_id=False,
        ) as client:  # fmt: skip
            for folder in ("records", "sealed"):
                for _, text in migration_files(folder):
                    for statement in statements(text):
                        client.command(statement)
        store = server.store()
        store.migrate(PASSWORDS["admin"])
        log = small("log.example/again")
        store.insert_records(log.origin, log.rows())
        assert store.size(log.origin) == len(log.leaves)
        store.close()
    finally:
        server.stop()


def test_an_edited_migration_is_refused(store: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def edited(folder: str) -> list[tuple[str, str]]:
        return [(name, text + "-- one more line\n") for name, text in migration_files(folder)]

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "migration_files", edited)
        with pytest.raises(EvidenceMismatch, match=r"records/0001_tables\.sql was applied and reads differently"):
            store.migrate(PASSWORDS["admin"])
    store.migrate(PASSWORDS["admin"])


def test_only_the_administrator_migrates(store: EvidenceStore) -> None:
    with pytest.raises(StoreUnavailable, match="516"):
        store.migrate("wrong")


# Records.


def test_what_was_inserted_comes_back_byte_for_byte(store: EvidenceStore) -> None:
    log = small("log.example/records", 12)
    assert store.size(log.origin) == 0
    store.insert_records(log.origin, log.rows(0, 7))
    store.insert_records(log.origin, log.rows(7))
    expected = [(row.index, row.leaf, row.leaf_hash) for row in log.rows()]
    assert store.size(log.origin) == 12
    assert store.read_range(log.origin, 0, 11) == expected
    assert store.read_range(log.origin, 3, 8) == expected[3:9]
    assert store.read_range(log.origin, 12, 100) == []
    assert store.read_range("log.example/no-such", 0, 11) == []


def test_a_repeated_block_changes_nothing(store: EvidenceStore) -> None:
    log = small("log.example/repeats")
    for _ in range(3):
        store.insert_records(log.origin, log.rows())
    assert len(store.read_range(log.origin, 0, 99)) == len(log.leaves)
    # Another cut of the same rows is another block: its rows stand twice, and reading takes each once.
    store.insert_records(log.origin, log.rows(0, 2))
    stored = store.read_range(log.origin, 0, 99)
    assert len(stored) == len(log.leaves) + 2
    check_stored(log.rows(), stored)
    assert [row[0] for row in store.rows_with_columns(log.origin, 0, 99)] == [0, 1, 2, 3, 4]


def test_typed_columns_say_what_the_leaf_says(store: EvidenceStore) -> None:
    log = Log("log.example/columns")
    log.add("genesis", {}, target=None, change_id=None)
    log.add("change.assessed", {"subject": "s", "operation": "register"}, change_id="c-1")
    log.add("act.read", {}, source=leaf.Source("acts.observed", 2**31 - 1, 2**53), target='ü"\\\n\x00z')
    store.insert_records(log.origin, log.rows())
    found = list(store.rows_with_columns(log.origin, 0, 99))
    assert [(index, data, digest) for index, data, digest, _ in found] == [
        (row.index, row.leaf, row.leaf_hash) for row in log.rows()
    ]
    for (_, data, _, columns), moment in zip(found, range(3), strict=True):
        said = json.loads(data)
        assert columns == {
            "v": said["v"],
            "id": said["id"],
            "kind": said["kind"],
            "at": f"2026-11-23 08:0{moment}:00.123",
            "target": said["target"] or "",
            "change_id": said["change_id"] or "",
            "source_topic": said["source"]["topic"],
            "source_partition": said["source"]["partition"],
            "source_offset": said["source"]["offset"],
        }
        assert tuple(columns) == COLUMNS


def test_two_leaves_at_one_index_are_not_passed_over(store: EvidenceStore) -> None:
    log, other = small("log.example/fork"), small("log.example/fork")
    other.leaves[3] = other.leaves[3].replace(b"s3", b"S3")
    store.insert_records(log.origin, log.rows())
    store.insert_records(log.origin, other.rows(3, 4))
    with pytest.raises(EvidenceMismatch, match="two different leaves for record 3"):
        list(store.rows_with_columns(log.origin, 0, 4))
    with pytest.raises(EvidenceMismatch, match="record 3 in the database is not what the log holds"):
        check_stored(log.rows(), store.read_range(log.origin, 0, 4))


# Parts: whatever bytes they are.

ANY_BYTES = st.one_of(
    st.binary(max_size=400),
    st.text(alphabet="\0\t\n\r\\'\"`\x7f;", max_size=30).map(str.encode),
    st.lists(st.sampled_from([b"\0", b"\xff", b"\xfe", b"\xc3", b"\\N", b"NULL"]), max_size=20).map(b"".join),
)
_runs = iter(range(10**9))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(ANY_BYTES, min_size=1, max_size=5), salt=st.binary(min_size=32, max_size=32))
def test_bodies_and_sealed_parts_come_back_byte_for_byte(
    store: EvidenceStore, contents: list[bytes], salt: bytes
) -> None:
    origin = f"log.example/parts-{next(_runs)}"
    bodies = tuple(
        (Body(digest=hmac.digest(salt, content, "sha256"), salt=salt, media_type="text/plain", content=content), index)
        for index, content in enumerate(contents)
    )
    parts = tuple(
        (SealedPart(name="request", media_type="x/y", size=len(content), commitment=body.digest, jwe=content), index)
        for (body, index), content in zip(bodies, contents, strict=True)
    )
    for _ in range(2):  # a repeat is read once
        store.insert_bodies(origin, bodies)
        store.insert_sealed(origin, parts)
    last = len(contents) - 1
    assert list(store.bodies(origin, 0, last)) == [body for body, _ in bodies]
    assert list(store.sealed(origin, 0, last)) == [part for part, _ in parts]
    assert list(store.bodies(origin, last, last)) == [bodies[last][0]]
    assert list(store.sealed(origin, 0, 0)) == [parts[0][0]]


def test_nothing_to_insert_is_no_insert(store: EvidenceStore) -> None:
    store.insert_bodies("log.example/none", ())
    store.insert_sealed("log.example/none", ())
    store.insert_actors((Person(iss=IDP, sub="nameless"),))
    assert list(store.bodies("log.example/none", 0, 9)) == []


def test_the_latest_checkpoint_is_the_largest(store: EvidenceStore) -> None:
    log = small("log.example/checkpoints")
    assert store.latest_checkpoint(log.origin) is None
    for size in (5, 3):  # one that came late does not count for more
        store.insert_checkpoint(log.checkpoint(size))
    latest = store.latest_checkpoint(log.origin)
    assert latest is not None
    assert (latest.size, latest.note) == (5, log.checkpoint(5).note)


# The views, over one log of a fresh server.


def actor(sub: str, **more: Any) -> dict[str, Any]:
    return {"iss": IDP, "sub": sub, "kind": "human"} | more


def story() -> Log:
    log = Log("log.example/story")
    log.add("baseline", {"subject": "orders-value", "version": 1, "schema_id": 7})
    log.add(
        "change.assessed",
        {
            "subject": "orders-value", "operation": "register", "requester": actor("ci", kind="service"),
            "initiator": actor("alice"), "verdict": "require", "rule": "breaking", "why": "a field is gone",
            "required_approvals": 2, "differences": ["/a removed"], "findings": [], "hidden": 1, "base_version": "1",
            "observed_only": False, "reason": "cleanup", "policy_sha256": "ab", "commitment": "cd",
        },
        change_id="c-1",
    )  # fmt: skip
    log.add("change.attached", {}, change_id="c-1")
    vote = {"decision": "approve", "required": 2, "custody": "attested"}
    log.add(
        "change.decided",
        vote | {"decision_id": "d-0", "accepted": False, "refusal": "four_eyes", "approver": actor("alice")},
        change_id="c-1",
    )
    for number, sub in enumerate(("bob", "carol"), 1):
        approver = actor(sub, groups=["schema-owners", "leads"])
        facts = vote | {"decision_id": f"d-{number}", "accepted": True, "votes": number, "approver": approver}
        log.add("change.decided", facts | {"reason": "looks right"}, change_id="c-1")
    log.add("change.released", {"attempt": 1}, change_id="c-1")
    log.add("change.applying", {}, change_id="c-1")
    log.add("change.closed", {"outcome": "applied", "base_after": "2"}, change_id="c-1")
    requester = {"requester": actor("alice")}
    log.add(
        "change.assessed",
        requester | {"subject": "x", "operation": "delete", "verdict": "require", "rule": "r", "why": "w"},
        change_id="c-2",
    )
    log.add("act.read", requester | {"subject": "s", "operation": "read", "path": "/subjects/s", "status": 200})
    log.add("act.existing", requester | {"subject": "s", "operation": "register", "path": "/p", "status": 200})
    log.add("act.denied", {"observer": "ingress", "reason_code": "token", "status": 401, "method": "GET", "count": 40})
    log.add("act.decision_refused", requester | {"observer": "decisions", "reason_code": "self"}, change_id="c-2")
    # The id of the read again, with another text: the first counts.
    log.add("act.read", requester | {"subject": "forged", "status": 500}, leaf_id="log.example/story-10")
    log.add("act.read", requester | {"subject": "december"}, at=datetime(2026, 12, 1, tzinfo=UTC))
    log.add("act.read", requester | {"subject": "not signed yet"})
    log.add("change.closed", {"outcome": "rejected", "reason": "not signed yet"}, change_id="c-2")
    return log


SIGNED = 16  # of 18: the last two are stored and not under a checkpoint


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = make_server(tmp_path_factory.mktemp("views"))
    try:
        made.start()
        store = made.store()
        store.migrate(PASSWORDS["admin"])
        log = story()
        store.insert_records(log.origin, log.rows())
        store.insert_records(log.origin, log.rows(1, 6))  # a fenced writer's rows
        store.insert_checkpoint(log.checkpoint(SIGNED))
        people = {"alice": "Alice Ångström", "bob": "Bob", "carol": "Carol", "ci": "ci"}
        store.insert_actors(tuple(Person(iss=IDP, sub=sub, name=name) for sub, name in people.items()))
        # The same subject at another issuer is another person.
        store.insert_actors((Person(iss="https://other.example", sub="bob", name="Mallory"),))
        store.close()
        yield made
    finally:
        made.stop()


def ask(server: Server, statement: str) -> list[tuple[Any, ...]]:
    with server.client("ana") as client:
        return [tuple(row) for row in client.query(statement).result_rows]


def test_changes_show_who_asked_who_approved_and_what_became_of_it(told: Server) -> None:
    assert ask(
        told,
        "SELECT change_id, idx, subject, operation, requester_sub, requester_kind, initiator_name, verdict, rule, why, "
        "requester_reason, differences, hidden_values, base_version, required_approvals, approvers, outcome, "
        "policy_sha256, commitment FROM changes ORDER BY change_id",
    ) == [
        ("c-1", 1, "orders-value", "register", "ci", "service", "Alice Ångström", "require", "breaking",
         "a field is gone", "cleanup", ["/a removed"], 1, "1", 2, ["Bob", "Carol"], "applied", "ab", "cd"),
        ("c-2", 9, "x", "delete", "alice", "human", "", "require", "r", "w", "", [], 0, "", 0, [], "pending", "", ""),
    ]  # fmt: skip
    times = ask(told, "SELECT change_id, toString(requested_at), toString(closed_at) FROM changes ORDER BY change_id")
    assert times == [
        ("c-1", "2026-11-23 08:01:00.123", "2026-11-23 08:08:00.123"),
        ("c-2", "2026-11-23 08:09:00.123", None),
    ]


def test_approvals_show_every_vote_and_why_one_did_not_count(told: Server) -> None:
    statement = (
        "SELECT change_id, decision_id, decision, accepted, refusal, approver_sub, approver_name, approver_groups, "
        "custody, reason FROM approvals ORDER BY idx"
    )
    groups = ["schema-owners", "leads"]
    assert ask(told, statement) == [
        ("c-1", "d-0", "approve", False, "four_eyes", "alice", "Alice Ångström", [], "attested", ""),
        ("c-1", "d-1", "approve", True, "", "bob", "Bob", groups, "attested", "looks right"),
        ("c-1", "d-2", "approve", True, "", "carol", "Carol", groups, "attested", "looks right"),
    ]


def test_the_timeline_reads_as_it_happened(told: Server) -> None:
    statement = "SELECT idx, actor, what FROM change_timeline WHERE change_id = 'c-1' ORDER BY idx"
    assert ask(told, statement) == [
        (1, "ci", "register of orders-value: require by breaking. a field is gone"),
        (2, "schemaseal", "the same request again: it waits for the same decision"),
        (3, "Alice Ångström", "approve refused: four_eyes"),
        (4, "Bob", "approve (1 of 2): looks right"),
        (5, "Carol", "approve (2 of 2): looks right"),
        (6, "schemaseal", "released to the applier, attempt 1"),
        (7, "schemaseal", "the applier is about to send it"),
        (8, "schemaseal", "applied, the target now has 2"),
    ]


def test_reads_show_the_first_of_a_repeated_id_and_only_what_is_signed(told: Server) -> None:
    statement = "SELECT idx, subject, path, requester_name, status, registered_again FROM reads ORDER BY idx"
    assert ask(told, statement) == [
        (10, "s", "/subjects/s", "Alice Ångström", 200, False),
        (11, "s", "/p", "Alice Ångström", 200, True),
        (15, "december", "", "Alice Ångström", 0, False),
    ]


def test_denials_are_counted_also_when_written_together(told: Server) -> None:
    statement = (
        "SELECT idx, kind, observer, reason_code, status, method, requester_sub, count FROM denials ORDER BY idx"
    )
    assert ask(told, statement) == [
        (12, "act.denied", "ingress", "token", 401, "GET", "", 40),
        (13, "act.decision_refused", "decisions", "self", 0, "", "alice", 1),
    ]


def test_the_baseline_is_what_was_there_before(told: Server) -> None:
    assert ask(told, "SELECT idx, target, subject, version, schema_id FROM baseline") == [
        (0, "orders", "orders-value", 1, 7)
    ]


def test_populations_count_each_entry_once_in_its_month(told: Server) -> None:
    statement = (
        "SELECT toString(period), population, items, first_idx, last_idx FROM population_by_period "
        "ORDER BY period, population"
    )
    assert ask(told, statement) == [
        ("2026-11-01", "baseline versions", 1, 0, 0),
        ("2026-11-01", "changes applied", 1, 8, 8),
        ("2026-11-01", "changes requested", 2, 1, 9),
        ("2026-11-01", "decisions", 3, 3, 5),
        ("2026-11-01", "denials", 2, 12, 13),
        ("2026-11-01", "reads", 1, 10, 10),
        ("2026-11-01", "registered again", 1, 11, 11),
        ("2026-12-01", "reads", 1, 15, 15),
    ]


def test_who_is_erased_is_shown_by_subject_and_a_new_name_replaces_the_old(told: Server) -> None:
    """Runs after the other views were read: it takes Bob's name away."""
    store = told.store()
    with told.client("admin") as admin:
        admin.command("ALTER TABLE evidence.actors DELETE WHERE iss = 'https://idp.example' AND sub = 'bob' "
                      "SETTINGS mutations_sync = 2")  # fmt: skip
    store.insert_actors((Person(iss=IDP, sub="carol", name="Carol Married"),))
    store.close()
    assert ask(told, "SELECT approvers FROM changes WHERE change_id = 'c-1'") == [(["bob", "Carol Married"],)]
    names = "SELECT approver_name FROM approvals ORDER BY idx"
    assert ask(told, names) == [("Alice Ångström",), ("bob",), ("Carol Married",)]
    timeline = "SELECT actor FROM change_timeline WHERE idx IN (4, 5) ORDER BY idx"
    assert ask(told, timeline) == [("bob",), ("Carol Married",)]


def test_without_a_checkpoint_there_is_nothing_to_see(server: Server, store: EvidenceStore) -> None:
    log = Log("log.example/unsigned")
    log.add("baseline", {"subject": "unsigned-subject"})
    store.insert_records(log.origin, log.rows())
    statement = "SELECT count() FROM baseline WHERE subject = 'unsigned-subject'"
    assert ask(server, statement) == [(0,)]
    store.insert_checkpoint(log.checkpoint())
    assert ask(server, statement) == [(1,)]


# When the server is away.


@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_the_store_works_again_when_the_server_is_back(tmp_path: Path, kill: bool) -> None:
    server = make_server(tmp_path)
    try:
        server.start()
        store = server.store()
        store.migrate(PASSWORDS["admin"])
        log = small("log.example/away", 8)
        store.insert_records(log.origin, log.rows(0, 4))
        store.insert_checkpoint(log.checkpoint(4))
        server.stop(kill=kill)
        for attempt in (
            lambda: store.insert_records(log.origin, log.rows(4)),
            lambda: store.read_range(log.origin, 0, 7),
            lambda: store.size(log.origin),
            lambda: store.latest_checkpoint(log.origin),
            lambda: store.migrate(PASSWORDS["admin"]),
        ):
            with pytest.raises(StoreUnavailable, match="ClickHouse at http://127"):
                attempt()
        server.start()
        store.insert_records(log.origin, log.rows(0, 4))  # the token is remembered on the disk
        store.insert_records(log.origin, log.rows(4))
        assert store.read_range(log.origin, 0, 99) == [(row.index, row.leaf, row.leaf_hash) for row in log.rows()]
        latest = store.latest_checkpoint(log.origin)
        assert latest is not None
        assert latest.note == log.checkpoint(4).note
        store.close()
    finally:
        server.stop()


# Exports.


def with_parts(origin: str, count: int) -> tuple[Log, tuple[tuple[Body, int], ...], tuple[tuple[SealedPart, int], ...]]:
    log, bodies, parts = Log(origin), [], []
    for index in range(count):
        content = b"masked \0\xff" + str(index // 2).encode()  # every other record names a body that is there
        salt = hashlib.sha256(content).digest()
        body = Body(
            digest=hmac.digest(salt, content, "sha256"),
            salt=salt,
            media_type="application/octet-stream",
            content=content,
        )
        part = SealedPart(
            name="request",
            media_type="x/y",
            size=9,
            commitment=hashlib.sha256(f"{origin} {index}".encode()).digest(),
            jwe=f'{{"ciphertext":"{index}"}}'.encode(),
        )
        log.add(
            "act.read", {"subject": f"s{index}"}, bodies=(("body", body),), sealed=(part,),
            leaf_id=f"00000000-0000-5000-8000-{index:012d}", source=leaf.Source("acts.observed", index % 3, index),
        )  # fmt: skip
        bodies.append((body, index))
        parts.append((part, index))
    return log, tuple(bodies), tuple(parts)


def export_of(store: EvidenceStore, log: Log, out: Path) -> int:
    return export_log(store, log.origin, log.signer.vkey, out)


def test_an_export_verifies(store: EvidenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemaseal.evidence.export.STEP", 7)  # several portions, the last one not full
    log, bodies, parts = with_parts("log.example/export", 25)
    store.insert_bodies(log.origin, bodies)
    store.insert_sealed(log.origin, parts)
    store.insert_records(log.origin, log.rows())
    store.insert_checkpoint(log.checkpoint(23))
    out = tmp_path / "export"
    progress: list[tuple[int, int]] = []
    assert export_log(store, log.origin, log.signer.vkey, out, lambda done, total: progress.append((done, total))) == 23
    assert progress == [(7, 23), (14, 23), (21, 23), (23, 23)]
    report = verify_export(out, vkeys=[log.signer.vkey], now=AT + timedelta(hours=1))
    assert report.ok, report
    assert len((out / "leaves.jsonl").read_bytes().splitlines()) == 23
    assert len((out / "bodies.jsonl").read_bytes().splitlines()) == 12
    assert len((out / "sealed.jsonl").read_bytes().splitlines()) == 23
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(SchemasealError, match="exists already"):
        export_of(store, log, out)


def test_a_log_without_a_checkpoint_is_not_exported(store: EvidenceStore, tmp_path: Path) -> None:
    log = small("log.example/no-checkpoint")
    store.insert_records(log.origin, log.rows())
    with pytest.raises(SchemasealError, match="no checkpoint yet"):
        export_of(store, log, tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_a_missing_row_is_named(store: EvidenceStore, tmp_path: Path, missing: int) -> None:
    log = small(f"log.example/missing-{missing}")
    for row in log.rows():
        if row.index != missing:
            store.insert_records(log.origin, (row,))
    store.insert_checkpoint(log.checkpoint())
    with pytest.raises(EvidenceMismatch, match=f"record {missing} is missing"):
        export_of(store, log, tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("what", ["leaf", "body", "sealed"])
def test_what_an_administrator_edits_is_found_in_the_export(
    store: EvidenceStore, admin: Client, tmp_path: Path, what: str
) -> None:
    log, bodies, parts = with_parts(f"log.example/edited-{what}", 6)
    store.insert_bodies(log.origin, bodies)
    store.insert_sealed(log.origin, parts)
    store.insert_records(log.origin, log.rows())
    store.insert_checkpoint(log.checkpoint())
    before = verify_export(
        _exported(store, log, tmp_path / "before"), vkeys=[log.signer.vkey], now=AT + timedelta(hours=1)
    )
    assert before.ok, before
    change, code = {
        "leaf": ("records UPDATE leaf = replaceOne(leaf, 's3', 'S3') WHERE idx = 3", "leaf-hash"),
        "body": ("bodies UPDATE content = 'other' WHERE idx = 3", "body-edited"),
        "sealed": ("sealed_parts UPDATE jwe = 'other' WHERE idx = 3", "sealed-edited"),
    }[what]
    if what == "body":  # one that two records share is taken from the first, so both are edited
        change = change.replace("idx = 3", "idx IN (2, 3)")
    admin.command(f"ALTER TABLE evidence.{change} AND log = '{log.origin}' SETTINGS mutations_sync = 2")
    after = verify_export(
        _exported(store, log, tmp_path / "after"), vkeys=[log.signer.vkey], now=AT + timedelta(hours=1)
    )
    assert not after.ok
    assert code in {finding.code for finding in after.findings}


def test_a_typed_column_cannot_be_made_to_say_something_else(store: EvidenceStore, admin: Client) -> None:
    log = small("log.example/typed")
    store.insert_records(log.origin, log.rows())
    before = list(store.rows_with_columns(log.origin, 0, 9))
    with pytest.raises(ClickHouseError, match="CANNOT_UPDATE"):
        admin.command("ALTER TABLE evidence.records UPDATE kind = 'act.denied' WHERE idx = 3")
    with pytest.raises(ClickHouseError):
        admin.command("INSERT INTO evidence.records (log, idx, leaf, kind) VALUES ('log.example/typed', 9, '', 'x')")
    assert list(store.rows_with_columns(log.origin, 0, 9)) == before


def _exported(store: EvidenceStore, log: Log, out: Path) -> Path:
    export_of(store, log, out)
    return out
