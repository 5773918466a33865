"""Access rules of a production broker: derived from the topics, and no wider."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemaseal.cli.main import app
from schemaseal.contracts.topics import SERVICES, TOPICS
from schemaseal.core.kafka.acls import acls
from schemaseal.evidence.service import TRANSACTIONAL_ID

SETTINGS = Path(__file__).parents[2] / "infra" / "docker" / "schemaseal.yaml"


def may(operation: str, topic: str) -> set[str]:
    return {
        rule.principal
        for rule in acls("x")
        if rule.resource == "topic" and not rule.prefixed and rule.name == topic and operation in rule.operations
    }


@pytest.mark.parametrize(
    ("topic", "writers"),
    [
        ("evidence", {"streams"}),
        ("evidence.checkpoints", {"evidence"}),
        ("changes.released", {"streams"}),
        ("changes.intercepted", {"ingress"}),
        ("changes.applying", {"applier"}),
        ("approvals.decided", {"decisions"}),
    ],
)
def test_one_service_alone_writes(topic: str, writers: set[str]) -> None:
    assert may("Write", topic) == writers


def test_every_topic_has_a_writer_and_a_reader_that_exist() -> None:
    for topic in TOPICS:
        assert may("Write", topic.name) >= set(topic.written_by) != set()
        assert may("Read", topic.name) == set(topic.read_by) != set()
    assert {rule.principal for rule in acls("x")} == set(SERVICES)


def test_no_prefix_reaches_our_topics() -> None:
    for rule in acls("x"):
        if rule.resource == "topic" and rule.prefixed:
            assert [topic.name for topic in TOPICS if topic.name.startswith(rule.name)] == []
    assert TRANSACTIONAL_ID in {rule.name for rule in acls("x") if rule.resource == "transactional-id"}


def test_the_command_prints_what_kafkas_tool_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEMASEAL_CONFIG", str(SETTINGS))
    printed = CliRunner().invoke(app, ["topics", "--acls"])
    assert printed.exit_code == 0, printed.output
    lines = printed.output.splitlines()
    assert len(lines) == len(acls("compose"))
    form = r"kafka-acls\.sh --bootstrap-server \S+ --add --allow-principal User:\w+( --operation \w+)+ --[a-z-]+( .+)?"
    assert [line for line in lines if not re.fullmatch(form, line)] == []
    listed = CliRunner().invoke(app, ["topics", "--acls", "--json"])
    assert len(json.loads(listed.output)) == len(lines)
