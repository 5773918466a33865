"""SIGKILL in the middle of a high-risk change, at every commit point: the same result, one application, and a
log that verifies. At-least-once delivery with derived ids is what makes that so.
"""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import Schema

from schemaseal.contracts import codec
from schemaseal.contracts.events import ChangeApplying, EvidenceEntry
from schemaseal.contracts.topics import APPLYING, EVIDENCE
from schemaseal.core.kafka import read_to_end
from schemaseal.devstack import orders
from schemaseal.devstack.story import until
from tests.stack import LocalStack

pytestmark = pytest.mark.timeout(300)
V1 = Schema(orders.order_v1_text(), "JSON")
V2 = Schema(orders.order_v2_text(), "JSON")


@dataclass(slots=True)
class Case:
    """One subject with a first version, and a second one on its way."""

    stack: LocalStack
    subject: str = field(default_factory=lambda: f"crash-{uuid4().hex[:12]}-value")

    def first(self) -> None:
        self.stack.registry_client(self.stack.person("alice")).register_schema(self.subject, V1)

    def second(self) -> Future[Any]:
        """Alice's call, in the background; held, and answered or told to come back."""
        token = self.stack.person("alice")
        return self.stack.background(lambda: self.stack.registry_client(token).register_schema(self.subject, V2))

    def pending(self) -> str:
        """The id of the change once it waits for people."""
        token = self.stack.person("bob")

        def probe() -> str | None:
            listed = self.stack.cli("change", "list", "--json", token=token)
            assert listed.returncode == 0, listed.stderr
            found = [c for c in json.loads(listed.stdout) if c["subject"] == self.subject and c["state"] == "pending"]
            return found[0]["change_id"] if found else None

        return until("the change to wait", probe, 60)

    def approve(self, change_id: str) -> Future[CompletedProcess[str] | BaseException]:
        token = self.stack.person("bob")
        return self.stack.background(
            lambda: self.stack.cli("change", "approve", change_id, "--reason", "reviewed", token=token)
        )

    def answered(self) -> int:
        """Alice's client, repeating its call until it gets the id."""

        def probe() -> int | None:
            value = self.second().result(60)
            return value if isinstance(value, int) else None

        return until("alice's answer", probe, 90)

    def settle(
        self,
        approved: Future[CompletedProcess[str] | BaseException],
        held: Future[Any],
        change_id: str,
        export: Path,
    ) -> None:
        """Bob's approval counted, alice gets her answer, and everything agrees."""
        done = approved.result(120)
        assert isinstance(done, CompletedProcess), done
        assert done.returncode == 0, done.stderr
        held.result(60)
        assert self.answered() > 0
        self.check(change_id, export)

    def check(self, change_id: str, export: Path) -> None:
        """The registry, the journal, the evidence and the proof agree on one application."""
        stack, direct = self.stack, self.stack.direct()
        assert direct.versions(self.subject) == [1, 2]
        assert direct.schema_text(self.subject, "2") == orders.order_v2_text()
        assert self._sends() == 2, "one send for each version"
        events = [
            codec.decode(ChangeApplying, record.value)
            for record in read_to_end(stack.deployment.bootstrap, APPLYING.name)
        ]
        outcomes = {e.release_id: e.outcome for e in events if e.change_id == change_id and e.phase == "outcome"}
        assert list(outcomes.values()) == ["applied"]
        self._entries_repeat_exactly()

        def closed() -> list[tuple[Any, ...]] | None:
            with stack.sql() as sql:
                rows = sql.query(
                    "SELECT outcome, requester_name, approvers FROM changes WHERE change_id = {id:String}",
                    parameters={"id": change_id},
                ).result_rows
            return [tuple(row) for row in rows] if rows and rows[0][0] == "applied" else None

        assert until("the outcome in evidence", closed, 60) == [("applied", "alice", ["bob"])]
        verify(stack, export)

    def _sends(self) -> int:
        """Registrations the registry itself logged for this subject."""
        log = (self.stack.deployment.logs / "registry.log").read_text("utf-8", "replace")
        return len(
            re.findall(rf'action="registerSchemaUnderSubject" result="success".*artifact_id="{self.subject}"', log)
        )

    def _entries_repeat_exactly(self) -> None:
        """An entry that was written twice has the same id and the same bytes."""
        seen: dict[str, bytes] = {}
        for record in read_to_end(self.stack.deployment.bootstrap, EVIDENCE.name):
            entry = codec.decode(EvidenceEntry, record.value)
            assert seen.setdefault(entry.id, entry.leaf) == entry.leaf


def verify(stack: LocalStack, out: Path) -> dict[str, Any]:
    """Export and verify offline with the product's own commands; returns the report."""
    shutil.rmtree(out, ignore_errors=True)
    exported = stack.cli("audit", "export", "--data", str(stack.deployment.data), "--out", str(out), "--json")
    assert exported.returncode == 0, exported.stderr
    verified = stack.cli("verify", str(out), "--key", stack.deployment.vkey, "--json")
    assert verified.returncode == 0, verified.stdout
    report: dict[str, Any] = json.loads(verified.stdout)
    return report


def test_every_crash_point_of_the_source_is_killed_here() -> None:
    here = Path(__file__).read_text("utf-8")
    root = Path(__file__).parents[2]
    named = {
        name.removeprefix("applier.")
        for source in [*root.glob("services/**/*.py"), *root.glob("streams/**/*.py")]
        for name in re.findall(r'crash_point\("([^"]+)"\)', source.read_text("utf-8"))
    }
    assert len(named) >= 11
    assert [name for name in sorted(named) if f'"{name}"' not in here] == []


def test_streams_and_evidence_killed_while_a_change_waits(stack: LocalStack, tmp_path: Path) -> None:
    case = Case(stack)
    case.first()
    held = case.second()
    change_id = case.pending()
    stack.kill("streams")
    stack.kill("evidence")
    approved = case.approve(change_id)
    stack.spawn("evidence")
    stack.spawn("streams")
    case.settle(approved, held, change_id, tmp_path / "export")


@pytest.mark.parametrize("point", ["outputs", "table"])
@pytest.mark.parametrize("moment", ["request", "decision"])
def test_streams_killed_at_a_commit_point(stack: LocalStack, tmp_path: Path, point: str, moment: str) -> None:
    case = Case(stack)
    case.first()
    if moment == "request":
        stack.kill("streams")
        held = case.second()
        stack.crash("streams", point)
        stack.spawn("streams")
        change_id = case.pending()
        approved = case.approve(change_id)
    else:
        held = case.second()
        change_id = case.pending()
        stack.kill("streams")
        approved = case.approve(change_id)
        stack.crash("streams", point)
        stack.spawn("streams")
    case.settle(approved, held, change_id, tmp_path / "export")


@pytest.mark.parametrize("point", ["bodies", "block", "signed", "in-transaction", "committed"])
def test_evidence_killed_at_a_commit_point(stack: LocalStack, tmp_path: Path, point: str) -> None:
    before = verify(stack, tmp_path / "before")
    stack.kill("evidence")
    case = Case(stack)
    case.first()
    stack.crash("evidence", point)
    stack.spawn("evidence")
    with stack.sql() as sql:
        rows = sql.query(
            "SELECT outcome FROM changes WHERE subject = {subject:String}", parameters={"subject": case.subject}
        ).result_rows
    assert [row[0] for row in rows] == ["applied"]
    after = verify(stack, tmp_path / "after")
    assert after["size"] > before["size"]


@pytest.mark.parametrize("point", ["before_sending", "after_sending", "after_send", "after_outcome"])
def test_applier_killed_at_a_commit_point(stack: LocalStack, tmp_path: Path, point: str) -> None:
    case = Case(stack)
    case.first()
    held = case.second()
    change_id = case.pending()
    stack.kill("applier")
    approved = case.approve(change_id)
    stack.crash("applier", f"applier.{point}")
    stack.spawn("applier")
    case.settle(approved, held, change_id, tmp_path / "export")
