"""The command line as people and scripts use it: what it asks, prints, refuses, and with which exit code it ends."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from schemaseal.cli.main import app
from schemaseal.verify import export_format as fmt
from tests.unit.verify_export_builder import LOG, OTHER_LOG, edit_json_line, model

COMMITMENT = "ab" * 32
CHANGE: dict[str, Any] = {
    "change_id": "c1",
    "state": "pending",
    "target": "registry",
    "subject": "orders",
    "operation": "register",
    "requester": {"iss": "i", "sub": "ci", "name": None},
    "initiator": {"iss": "i", "sub": "alice", "name": "Alice"},
    "rule": "r1",
    "required": 2,
    "approvals": 1,
    "groups": ["owners"],
    "requested_at": "2026-11-23T09:00:00.000Z",
    "expires_at": "2026-11-23T10:00:00.000Z",
    "reason": None,
    "why": "a required member was added",
    "request_reason": "ticket 7",
    "differences": [
        {
            "code": "property-removed",
            "pointer_old": "/properties/a",
            "old": {"type": "string"},
            "effect": "widens",
            "witness": {},
        }
    ],
    "findings": [{"code": "breaks_readers"}],
    "hidden": 3,
    "base": "v1:id7",
    "commitment": COMMITMENT,
    "attached": [],
}
REFUSED: dict[str, Any] = {
    "type": "urn:schemaseal:problem:own_change",
    "title": "own change",
    "status": 403,
    "code": "own_change",
    "detail": "requester and initiator cannot decide their own change; they may withdraw it",
}


@dataclass
class Asked:
    method: str
    path: str
    token: str
    body: Any


class StubDecisions:
    """Stands in for the decisions API on loopback: answers each method and path with what it was told."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], tuple[int, bytes] | Callable[[], tuple[int, bytes]]] = {}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def _answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                token = self.headers.get("authorization", "")
                stub.asked.append(Asked(self.command, self.path, token, json.loads(raw) if raw else None))
                told = stub.answers.get((self.command, self.path), (404, json.dumps(_problem(404, "unknown_change"))))
                status, body = told() if callable(told) else told
                data = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _answer  # noqa: N815 - the names that the server calls

            def log_message(self, *_args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def tells(self, method: str, path: str, value: Any, status: int = 200) -> None:
        self.answers[method, path] = (status, json.dumps(value).encode())

    def decides(self, value: Any, status: int = 200) -> None:
        self.tells("POST", "/v1/changes/c1/decisions", value, status)


def _problem(status: int, code: str) -> dict[str, Any]:
    return {"status": status, "code": code, "detail": "no change with this id was put before people"}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubDecisions]:
    made = StubDecisions()
    made.tells("GET", "/v1/changes/c1", CHANGE)
    made.tells("GET", "/v1/changes", {"changes": [CHANGE]})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCHEMASEAL_DECISIONS_URL", made.url)
    monkeypatch.setenv("SCHEMASEAL_TOKEN", "bobs-token")
    yield made
    made.close()


def run(*args: str) -> Result:
    """Anything but an exit code that was meant is a fault: a traceback fails the test."""
    result = CliRunner().invoke(app, args)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# ---------------------------------------------------------------- looking


def test_list_prints_a_line_for_each_change(stub: StubDecisions) -> None:
    result = run("change", "list")
    assert result.exit_code == 0
    head, line = result.stdout.splitlines()
    assert head.split() == ["change", "state", "operation", "subject", "requester", "initiator", "approvals"]
    assert line.split() == ["c1", "pending", "register", "orders", "ci", "Alice", "1", "of", "2"]
    assert [(asked.method, asked.path, asked.token) for asked in stub.asked] == [
        ("GET", "/v1/changes", "Bearer bobs-token")
    ]


def test_list_as_json_is_one_document(stub: StubDecisions) -> None:
    stub.tells("GET", "/v1/changes?state=pending", {"changes": [CHANGE, CHANGE]})
    result = run("change", "list", "--state", "pending", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [CHANGE, CHANGE]


def test_a_state_is_a_value_and_never_more_of_the_query(stub: StubDecisions) -> None:
    run("change", "list", "--state", "a&target=b#c")
    assert stub.asked[0].path == "/v1/changes?state=a%26target%3Db%23c"


def test_an_id_is_one_segment_of_the_path(stub: StubDecisions) -> None:
    assert run("change", "show", "../../healthz?x").exit_code == 1
    assert stub.asked[0].path == "/v1/changes/..%2F..%2Fhealthz%3Fx"


def test_show_prints_what_an_approver_needs(stub: StubDecisions) -> None:
    result = run("change", "show", "c1")
    assert result.exit_code == 0
    for part in (
        "register",
        "orders",
        "pending",
        "ci",
        "Alice",
        "ticket 7",
        "r1: a required member was added",
        "1 of 2 from owners",
        "v1:id7",
        COMMITMENT[:16],
        "property-removed at /properties/a",
        "• breaks_readers",
        "3 values are hidden",
    ):
        assert part in result.stdout
    assert "before=" not in result.stdout


def test_show_as_json_is_the_change(stub: StubDecisions) -> None:
    result = run("change", "show", "c1", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, CHANGE)


@pytest.mark.parametrize("subject", ["a[bold]b[/bold]", "a[/nothing]b", "a[link=http://elsewhere.test]b", "[red]"])
def test_a_subjects_name_is_printed_as_it_is(stub: StubDecisions, subject: str) -> None:
    """Whoever names a subject must not decide what an approver sees, or whether."""
    change = CHANGE | {"subject": subject, "requester": {"iss": "i", "sub": subject, "name": None}}
    stub.tells("GET", "/v1/changes/c1", change)
    stub.tells("GET", "/v1/changes", {"changes": [change | {"initiator": None}]})
    shown = run("change", "show", "c1")
    assert shown.exit_code == 0
    assert shown.stdout.count(subject) == 2
    assert "[pending]" in shown.stdout
    listed = run("change", "list")
    assert listed.exit_code == 0
    # A narrow terminal folds long names.
    assert subject[:10] in listed.stdout


# ---------------------------------------------------------------- deciding


@pytest.mark.parametrize(
    ("decision", "state"), [("approve", "approved"), ("reject", "rejected"), ("withdraw", "withdrawn")]
)
def test_a_decision_is_about_the_bytes_that_were_shown(stub: StubDecisions, decision: str, state: str) -> None:
    stub.decides({"state": state, "approvals": 2, "accepted": True, "refusal": None})
    result = run("change", decision, "c1", "--reason", "looks right")
    assert result.exit_code == 0
    shown, decided = stub.asked
    assert (shown.method, shown.path) == ("GET", "/v1/changes/c1")
    assert (decided.method, decided.token) == ("POST", "Bearer bobs-token")
    body = dict(decided.body)
    uuid.UUID(body.pop("decision_id"))
    assert body == {"decision": decision, "commitment": COMMITMENT, "reason": "looks right"}
    assert f"{decision}: counted; the change is now {state} (2 of 2)" in result.stdout
    assert ("property-removed at /properties/a" in result.stdout) is (decision == "approve"), (
        "an approver sees what is approved"
    )


@pytest.mark.parametrize("decision", ["approve", "reject", "withdraw"])
def test_a_decision_as_json_is_the_apis_answer_alone(stub: StubDecisions, decision: str) -> None:
    told = {"state": "approved", "approvals": 2, "accepted": True, "refusal": None}
    stub.decides(told)
    result = run("change", decision, "c1", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == told


def test_a_refused_decision_says_why_and_ends_with_1(stub: StubDecisions) -> None:
    stub.decides(REFUSED, 403)
    result = run("change", "approve", "c1")
    assert result.exit_code == 1
    assert REFUSED["detail"] in result.stderr
    assert "(own_change)" in result.stderr
    assert "counted" not in result.stdout


def test_a_refused_decision_as_json_is_the_problem_and_ends_with_1(stub: StubDecisions) -> None:
    stub.decides(REFUSED, 403)
    result = run("change", "approve", "c1", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, REFUSED)


def test_a_decision_that_nobody_answered_yet_is_not_called_counted(stub: StubDecisions) -> None:
    stub.decides({"decision_id": "d", "state": "recorded"}, 202)
    result = run("change", "approve", "c1")
    assert result.exit_code == 0
    assert "counted" not in result.stdout
    assert "recorded" in result.stdout


def test_an_unknown_change_is_not_decided(stub: StubDecisions) -> None:
    result = run("change", "approve", "c2")
    assert result.exit_code == 1
    assert "no change with this id" in result.stderr
    assert [asked.method for asked in stub.asked] == ["GET"]


# ---------------------------------------------------------------- watching


def _life(stub: StubDecisions, monkeypatch: pytest.MonkeyPatch, *states: str) -> None:
    """The change is in the next state each time it is asked for; nobody really sleeps in between."""
    left = list(states)

    def told() -> tuple[int, bytes]:
        state = left.pop(0) if len(left) > 1 else left[0]
        return 200, json.dumps(CHANGE | {"state": state}).encode()

    clock = itertools.count()
    stub.answers["GET", "/v1/changes/c1"] = told
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))


def test_watch_follows_a_change_to_its_end(stub: StubDecisions, monkeypatch: pytest.MonkeyPatch) -> None:
    _life(stub, monkeypatch, "pending", "pending", "approved", "applying", "applied")
    result = run("change", "watch", "c1")
    assert (result.exit_code, result.stdout.split()) == (0, ["pending", "approved", "applying", "applied"])


@pytest.mark.parametrize("end", ["failed", "denied", "rejected", "withdrawn", "expired", "lapsed", "superseded"])
def test_watch_ends_with_1_when_it_was_not_applied(
    stub: StubDecisions, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    _life(stub, monkeypatch, "pending", end)
    result = run("change", "watch", "c1", "--json")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"state": "pending"}, {"state": end}]


def test_watch_gives_up_and_says_where_it_stood(stub: StubDecisions, monkeypatch: pytest.MonkeyPatch) -> None:
    _life(stub, monkeypatch, "pending")
    result = run("change", "watch", "c1", "--timeout", "5")
    assert result.exit_code == 1
    assert "still pending after 5 s" in result.stderr


# ---------------------------------------------------------------- clear errors


@pytest.mark.parametrize("command", [("list",), ("show", "c1"), ("approve", "c1"), ("watch", "c1")])
def test_without_a_token_nothing_is_asked(
    stub: StubDecisions, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SCHEMASEAL_TOKEN", "")
    result = run("change", *command)
    assert result.exit_code == 1
    assert "no access token" in result.stderr
    assert "SCHEMASEAL_TOKEN" in result.stderr
    assert stub.asked == []


def test_a_token_comes_from_a_file_before_the_environment(stub: StubDecisions, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("carols-token\n", "utf-8")
    assert run("change", "list", "--token-file", str(file)).exit_code == 0
    assert stub.asked[0].token == "Bearer carols-token"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", "tokén".encode(), b"two\nlines"])
def test_a_token_file_without_a_token_is_told(stub: StubDecisions, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    result = run("change", "list", "--token-file", str(file))
    assert result.exit_code == 1
    assert "token" in result.stderr
    assert stub.asked == []
    assert "lines" not in result.stderr, "what may be a secret is not repeated"


def test_an_address_nobody_listens_at_is_told(stub: StubDecisions) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run("change", "list", "--url", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert f"http://127.0.0.1:{port} does not answer" in result.stderr
    assert "SCHEMASEAL_DECISIONS_URL" in result.stderr
    assert "bobs-token" not in result.output


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ftp://127.0.0.1", "http://[", "http://a:b:c", "nonsense"])
def test_an_address_that_is_none_is_told(stub: StubDecisions, url: str) -> None:
    result = run("change", "list", "--url", url)
    assert result.exit_code == 1
    assert "the decisions API at" in result.stderr


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>a proxy</html>"), (502, b""), (200, b"[]"), (500, b'"oops"'), (200, b"null")]
)
def test_an_answer_that_is_not_the_apis_is_told(stub: StubDecisions, status: int, body: bytes) -> None:
    stub.answers["GET", "/v1/changes"] = (status, body)
    result = run("change", "list")
    assert result.exit_code == 1
    assert "the decisions API at" in result.stderr


def test_a_sentence_with_brackets_is_printed_as_it_is(stub: StubDecisions) -> None:
    stub.tells("GET", "/v1/changes", REFUSED | {"detail": "[/red] and [bold]this[/bold]"}, 403)
    result = run("change", "list")
    assert result.exit_code == 1
    assert "[/red] and [bold]this[/bold]" in result.stderr


def test_usage_errors_end_with_2() -> None:
    assert run("change", "show").exit_code == 2
    assert run("change", "frobnicate").exit_code == 2


# ---------------------------------------------------------------- verify


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return model().write(tmp_path / "export")


def test_a_good_export_verifies(export: Path) -> None:
    result = run("verify", str(export), "--key", LOG.vkey)
    assert result.exit_code == 0
    assert "OK" in result.stdout
    as_json = run("verify", str(export), "--key", LOG.vkey, "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["ok"]) == (0, True)


def test_a_changed_record_is_named(export: Path) -> None:
    edit_json_line(export / fmt.LEAVES, 4, _tamper)
    result = run("verify", str(export), "--key", LOG.vkey, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["ok"], report["integrity"]["status"]) == (False, "failed")
    assert report["first_bad_index"] == 4
    told = run("verify", str(export), "--key", LOG.vkey)
    assert told.exit_code == 1
    assert "4" in told.stdout


def _tamper(line: dict[str, Any]) -> None:
    """Another value in the columns that people read, the leaf left as it is."""
    name = next(name for name, value in line["columns"].items() if isinstance(value, str))
    line["columns"][name] += "x"


def test_a_removed_record_is_noticed(export: Path) -> None:
    path = export / fmt.LEAVES
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    assert run("verify", str(export), "--key", LOG.vkey).exit_code == 1


def test_a_log_under_another_key_does_not_verify(export: Path) -> None:
    assert run("verify", str(export), "--key", OTHER_LOG.vkey).exit_code == 1


def test_old_evidence_fails_only_when_freshness_is_asked_for(export: Path) -> None:
    assert run("verify", str(export)).exit_code == 0
    assert run("verify", str(export), "--max-age", "0").exit_code == 1


def test_what_is_no_export_ends_with_2(tmp_path: Path, export: Path) -> None:
    missing = run("verify", str(tmp_path / "nothing"))
    assert (missing.exit_code, "cannot be verified" in missing.stderr) == (2, True)
    no_pin = run("verify", str(export), "--against", str(tmp_path / "nothing"))
    assert (no_pin.exit_code, "cannot be verified" in no_pin.stderr) == (2, True)
