"""Every request of the Confluent-compatible API has one meaning, and everything else is refused."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.contracts.http import HttpRequest
from schemaseal.registry.classify import canonical_path, canonical_request, classify, subject_scope
from schemaseal.registry.confluent import ROUTES
from schemaseal.registry.operation import Operation, Unclassified

JSON = (("Content-Type", "application/vnd.schemaregistry.v1+json"),)
SCHEMA = b'{"schema": "{\\"type\\": \\"object\\"}", "schemaType": "JSON"}'


def ask(method: str, path: str, query: str = "", body: bytes = b"") -> Operation | Unclassified:
    return classify("confluent", HttpRequest(method, path, query, JSON if body else (), body))


def known(method: str, path: str, query: str = "", body: bytes = b"") -> Operation:
    operation = ask(method, path, query, body)
    assert isinstance(operation, Operation), operation
    return operation


CHANGES = [
    ("POST", "/subjects/s/versions", SCHEMA, "register", "s", "idempotent"),
    ("DELETE", "/subjects/s", b"", "delete_subject", "s", "probe_decidable"),
    ("DELETE", "/subjects/s/versions/3", b"", "delete_version", "s", "probe_decidable"),
    ("POST", "/subjects/s/versions/3/tags", b"{}", "change_tags", "s", "undecidable"),
    ("PUT", "/config", b'{"compatibility": "NONE"}', "set_config", None, "idempotent"),
    ("PUT", "/config/s", b'{"compatibility": "NONE"}', "set_config", "s", "idempotent"),
    ("DELETE", "/config", b"", "delete_config", None, "probe_decidable"),
    ("DELETE", "/config/s", b"", "delete_config", "s", "probe_decidable"),
    ("PUT", "/mode", b'{"mode": "IMPORT"}', "set_mode", None, "idempotent"),
    ("PUT", "/mode/s", b'{"mode": "IMPORT"}', "set_mode", "s", "idempotent"),
    ("DELETE", "/mode/s", b"", "delete_mode", "s", "probe_decidable"),
    ("DELETE", "/contexts/.team", b"", "delete_context", None, "undecidable"),
    ("POST", "/associations", b"{}", "set_association", None, "undecidable"),
    ("PUT", "/associations", b"{}", "set_association", None, "undecidable"),
    ("DELETE", "/associations/resources/r", b"", "delete_association", None, "undecidable"),
    ("POST", "/exporters", b"{}", "create_exporter", None, "undecidable"),
    ("PUT", "/exporters/e", b"{}", "set_exporter", None, "undecidable"),
    ("PUT", "/exporters/e/config", b"{}", "set_exporter", None, "undecidable"),
    ("PUT", "/exporters/e/pause", b"", "pause_exporter", None, "undecidable"),
    ("PUT", "/exporters/e/resume", b"", "resume_exporter", None, "undecidable"),
    ("PUT", "/exporters/e/reset", b"", "reset_exporter", None, "undecidable"),
    ("DELETE", "/exporters/e", b"", "delete_exporter", None, "undecidable"),
    ("POST", "/dek-registry/v1/keks", b"{}", "create_kek", None, "undecidable"),
    ("PUT", "/dek-registry/v1/keks/k", b"{}", "set_kek", None, "undecidable"),
    ("DELETE", "/dek-registry/v1/keks/k", b"", "delete_kek", None, "undecidable"),
    ("POST", "/dek-registry/v1/keks/k/undelete", b"", "undelete_kek", None, "undecidable"),
    ("POST", "/dek-registry/v1/keks/k/deks", b"{}", "create_dek", None, "undecidable"),
    ("POST", "/dek-registry/v1/keks/k/deks/d", b"{}", "create_dek", None, "undecidable"),
    ("DELETE", "/dek-registry/v1/keks/k/deks/d", b"", "delete_dek", None, "undecidable"),
    ("DELETE", "/dek-registry/v1/keks/k/deks/d/versions/1", b"", "delete_dek", None, "undecidable"),
    ("POST", "/dek-registry/v1/keks/k/deks/d/undelete", b"", "undelete_dek", None, "undecidable"),
]

READS = [
    ("GET", "/", "root"),
    ("GET", "/contexts", "list_contexts"),
    ("GET", "/schemas", "list_schemas"),
    ("GET", "/schemas/types", "list_types"),
    ("GET", "/schemas/ids/7", "get_schema"),
    ("GET", "/schemas/ids/7/schema", "get_schema"),
    ("GET", "/schemas/ids/7/subjects", "get_schema_subjects"),
    ("GET", "/schemas/ids/7/versions", "get_schema_versions"),
    ("GET", "/schemas/guids/6b2c/ids", "get_schema_ids"),
    ("GET", "/subjects", "list_subjects"),
    ("GET", "/subjects/s/versions", "list_versions"),
    ("GET", "/subjects/s/versions/latest", "get_version"),
    ("GET", "/subjects/s/versions/-1", "get_version"),
    ("GET", "/subjects/s/versions/3/schema", "get_version"),
    ("GET", "/subjects/s/versions/3/referencedby", "get_referenced_by"),
    ("GET", "/subjects/s/metadata", "get_latest_with_metadata"),
    ("GET", "/config", "get_config"),
    ("GET", "/config/s", "get_config"),
    ("GET", "/mode", "get_mode"),
    ("GET", "/mode/s", "get_mode"),
    ("GET", "/exporters/e/status", "get_exporter"),
    ("GET", "/dek-registry/v1/keks/k/deks/d/versions/2", "get_dek"),
    ("HEAD", "/subjects", "list_subjects"),
    ("OPTIONS", "/subjects/s", "options"),
]


@pytest.mark.parametrize(("method", "path", "body", "name", "subject", "certainty"), CHANGES)
def test_changes(method: str, path: str, body: bytes, name: str, subject: str | None, certainty: str) -> None:
    operation = known(method, path, "", body)
    assert (operation.kind, operation.name) == ("change", name)
    assert (operation.subject, operation.certainty) == (subject, certainty)


@pytest.mark.parametrize(("method", "path", "name"), READS)
def test_reads(method: str, path: str, name: str) -> None:
    operation = known(method, path)
    assert (operation.kind, operation.name) == ("read", name)


@pytest.mark.parametrize(
    "path",
    ["/subjects/s", "/compatibility/subjects/s/versions", "/compatibility/subjects/s/versions/latest"],
)
def test_posts_that_only_look_are_reads(path: str) -> None:
    assert known("POST", path, "", SCHEMA).kind == "read"


def test_every_change_of_the_table_is_tried_here() -> None:
    tried = {row[3] for row in CHANGES}
    assert {route.name for route in ROUTES if route.kind == "change"} - tried <= {"test_kek"}


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("//subjects//", "/subjects"),
        ("/%73ubjects/orders/", "/subjects/orders"),
        ("/subjects/a%2fb", "/subjects/a%2Fb"),
        ("/subjects/%3A.team%3Aorders", "/subjects/%3A.team%3Aorders"),
        ("/subjects/:.team:orders", "/subjects/%3A.team%3Aorders"),
        ("/subjects/caf%C3%A9", "/subjects/caf%C3%A9"),
        ("/", "/"),
    ],
)
def test_canonical_path(raw: str, canonical: str) -> None:
    assert canonical_path(raw) == canonical
    assert canonical_path(canonical) == canonical


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("/subjects//versions", "empty_segment"),
        ("/subjects/../config", "dot_segment"),
        ("/subjects/%2e%2E/config", "dot_segment"),
        ("/subjects/a%2F..%2Fb", "dot_segment"),
        ("/subjects/./x", "dot_segment"),
        ("/subjects/a;v=1/versions", "path_delimiter"),
        ("/subjects/a%3Bv=1/versions", "path_delimiter"),
        ("/subjects/a\\b", "path_delimiter"),
        ("/subjects/a%5Cb", "path_delimiter"),
        ("/subjects/a%00", "control_byte"),
        ("/subjects/a%0d%0aX:y", "control_byte"),
        ("/subjects/a%C2%85", "control_byte"),
        ("/subjects/a%252Fb", "double_encoding"),
        ("/subjects/a%", "bad_escape"),
        ("/subjects/a%zz", "bad_escape"),
        ("/subjects/%ff", "bad_encoding"),
        ("/subjects/a b", "bad_path"),
        ("subjects", "bad_path"),
        ("/caf\u00e9", "bad_path"),
        ("", "bad_path"),
    ],
)
def test_paths_that_could_be_read_in_two_ways_are_refused(raw: str, reason: str) -> None:
    assert canonical_path(raw) == Unclassified(reason)


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "reason"),
    [
        ("GET", "/apis/registry/v3/groups", "", b"", "unknown_path"),
        ("GET", "/apis/ccompat/v8/subjects", "", b"", "unknown_path"),
        ("GET", "/subjects/a/versions/0", "", b"", "unknown_path"),
        ("GET", "/subjects/a/versions/01", "", b"", "unknown_path"),
        ("GET", "/schemas/ids/abc", "", b"", "unknown_path"),
        ("GET", "/Subjects", "", b"", "unknown_path"),
        ("GET", "/subjects%2Fa", "", b"", "unknown_path"),
        ("PATCH", "/subjects/a", "", b"", "unknown_method"),
        ("get", "/subjects", "", b"", "unknown_method"),
        ("PUT", "/subjects/a", "", b"{}", "unknown_method"),
        ("TRACE", "/subjects", "", b"", "unknown_method"),
        ("DELETE", "/subjects/a", "permanent=maybe", b"", "bad_flag"),
        ("DELETE", "/subjects/a", "permanent=false&permanent=true", b"", "repeated_query"),
        ("DELETE", "/subjects/a", "cascade=true", b"", "unknown_query"),
        ("GET", "/subjects", "_method=DELETE", b"", "method_override"),
        ("DELETE", "/subjects/a", "", b"{}", "unexpected_body"),
        ("GET", "/subjects", "", b"{}", "unexpected_body"),
        ("DELETE", "/exporters/a%2Fb", "", b"", "encoded_slash"),
        ("GET", "/contexts/.team/exporters", "", b"", "unknown_path"),
        ("GET", "/contexts/team/subjects", "", b"", "bad_context"),
        ("GET", "/contexts/.a/subjects/:.b:x/versions", "", b"", "bad_context"),
        ("GET", "/subjects/:.b/versions", "", b"", "bad_context"),
    ],
)
def test_unknown_is_refused(method: str, path: str, query: str, body: bytes, reason: str) -> None:
    assert ask(method, path, query, body) == Unclassified(reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no_body"),
        (b"[]", "not_an_object"),
        (b'{"schema": "a", "schema": "b"}', "repeated_member"),
        (b'{"schema": NaN}', "not_json"),
        (b"\xef\xbb\xbf{}", "byte_order_mark"),
        ('{"schema": "{}"}'.encode("utf-16"), "not_json"),
        (b'{"schema": {}}', "bad_envelope"),
        (b'{"schema": "{}", "references": [{"name": "x"}]}', "bad_envelope"),
        (b"[" * 200_000, "not_json"),
    ],
)
def test_bodies_are_read_strictly(body: bytes, reason: str) -> None:
    assert ask("POST", "/subjects/s/versions", "", body) == Unclassified(reason, 422)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "x-method-override", "X-HTTP-Method"])
def test_method_override_is_refused(name: str) -> None:
    request = HttpRequest("GET", "/subjects", "", ((name, "DELETE"),))
    assert classify("confluent", request) == Unclassified("method_override")


def test_encoded_and_foreign_bodies_are_refused() -> None:
    gzip = (*JSON, ("content-encoding", "gzip"))
    assert classify("confluent", HttpRequest("PUT", "/config", "", gzip, b"{}")) == Unclassified(
        "content_encoding", 415
    )
    form = (("content-type", "application/x-www-form-urlencoded"),)
    assert classify("confluent", HttpRequest("PUT", "/config", "", form, b"{}")) == Unclassified("media_type", 415)


def test_what_is_classified_is_what_is_sent() -> None:
    operation = known("POST", "//subjects/%6Frders/versions/", "normalize=False", SCHEMA)
    assert (operation.path, operation.query) == ("/subjects/orders/versions", "normalize=false")
    assert not operation.normalize
    assert known("DELETE", "/subjects/a", "permanent=TRUE").permanent


def test_the_envelope_keeps_the_text() -> None:
    operation = known("POST", "/subjects/s/versions", "", SCHEMA)
    assert operation.body_schema is not None
    assert operation.body_schema.schema_text == '{"type": "object"}'
    assert operation.body_schema.schema_type == "JSON"


def test_one_subject_however_it_is_written() -> None:
    plain = known("DELETE", "/subjects/orders")
    assert known("DELETE", "/subjects/:.:orders").subject == plain.subject
    team = known("DELETE", "/subjects/:.team:orders")
    assert known("DELETE", "/contexts/.team/subjects/orders").subject == team.subject
    assert known("DELETE", "/contexts/:.team:/subjects/orders").subject == team.subject


def test_settings_have_a_scope_of_their_own() -> None:
    scopes = {
        subject_scope(known("DELETE", path))
        for path in ("/subjects/s", "/config/s", "/config", "/mode/s", "/contexts/.t", "/contexts/.t/config")
    }
    assert len(scopes) == 6
    assert subject_scope(known("DELETE", "/subjects/s/versions/2")) == "s"


def test_same_meaning_same_bytes() -> None:
    one = HttpRequest("POST", "/subjects/s/versions", "normalize=False", JSON, SCHEMA)
    members = dict(reversed(list(json.loads(SCHEMA).items())))
    other = HttpRequest(
        "POST", "//subjects/%73/versions/", "normalize=false", JSON, json.dumps(members, indent=2).encode()
    )
    texts = []
    for request in (one, other):
        operation = classify("confluent", request)
        assert isinstance(operation, Operation)
        texts.append(canonical_request(operation, request))
    assert texts[0] == texts[1]
    changed = HttpRequest("POST", "/subjects/s/versions", "normalize=true", JSON, SCHEMA)
    operation = classify("confluent", changed)
    assert isinstance(operation, Operation)
    assert canonical_request(operation, changed) != texts[0]


@given(st.text(max_size=40))
def test_any_path_is_canonical_or_refused(text: str) -> None:
    result = canonical_path("/" + text)
    if isinstance(result, str):
        assert canonical_path(result) == result
        assert "//" not in result
        assert not {".", ".."} & set(result.split("/"))


@given(st.text(min_size=1, max_size=20), st.binary(max_size=60))
def test_nothing_raises(path: str, body: bytes) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        ask(method, f"/subjects/{path}/versions", "", body)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_a_subject_survives_its_encoding(subject: str) -> None:
    path = f"/subjects/{quote(subject, safe='')}"
    operation = ask("DELETE", path)
    if isinstance(operation, Operation):
        assert operation.subject == subject or subject.startswith(":.")
        assert operation.path == canonical_path(path)
