"""What `ConfluentTarget` promises, held against whatever speaks the Confluent-compatible API.

Every test goes through `place`: the small stand-in below, and the real registry of the local stack. So nothing here
relies on an empty registry, on certain ids, or on setting anything for the whole of it.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx
import pytest

from schemaseal.applier.credentials import load_credentials
from schemaseal.contracts.http import HttpRequest, HttpResponse
from schemaseal.core.clock import system_clock
from schemaseal.core.errors import TargetUnavailable
from schemaseal.devstack.deployment import TARGET
from schemaseal.registry.base import Base
from schemaseal.registry.classify import classify
from schemaseal.registry.confluent_target import ConfluentTarget, Stored
from schemaseal.registry.operation import Operation, Reference
from schemaseal.registry.paths import encode
from schemaseal.registry.target import (
    Happened,
    NoCredentials,
    NotHappened,
    NotSent,
    TargetRefused,
    Unknown,
    Wire,
    member,
)
from tests.stack import LocalStack

DIALECT = "https://json-schema.org/draft/2020-12/schema"
JSON = (("content-type", "application/vnd.schemaregistry.v1+json"),)


# ---------------------------------------------------------------- the stand-in


@dataclass(slots=True)
class Version:
    number: int
    schema_id: int
    schema_type: str
    text: str
    references: list[Any]
    deleted: bool = False

    @property
    def content(self) -> tuple[str, str, str]:
        return self.schema_type, self.text, json.dumps(self.references, sort_keys=True)


class Fault(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, code: int) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass(slots=True)
class StandInRegistry:
    """A stand-in for a Confluent-compatible registry: subjects, versions, settings; it checks no compatibility."""

    subjects: dict[str, list[Version]] = field(default_factory=dict)
    settings: dict[tuple[str, str], str] = field(default_factory=dict)
    ids: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        segments = [unquote(part) for part in path.strip("/").split("/")]
        match method, segments:
            case "GET", ["subjects"]:
                return [name for name in self.subjects if self._known(name)]
            case "POST", ["subjects", subject]:
                return self._look_up(subject, body, query)
            case "DELETE", ["subjects", subject]:
                return [self._delete(subject, v, query) for v in self._doomed(subject, query)]
            case "GET", ["subjects", subject, "versions"]:
                return [version.number for version in self._versions(subject, query)]
            case "POST", ["subjects", subject, "versions"]:
                return {"id": self._register(subject, body, query).schema_id}
            case "GET", ["subjects", subject, "versions", which]:
                return self._shown(subject, self._version(subject, which, query))
            case "DELETE", ["subjects", subject, "versions", which]:
                every = query | {"deleted": "true"} if query.get("permanent") == "true" else query
                return self._delete(subject, self._version(subject, which, every), query)
            case _, ["config" | "mode" as setting, *rest] if len(rest) <= 1:
                return self._setting(method, setting, "".join(rest), body)
        raise Fault(404, 404)

    def _known(self, subject: str) -> list[Version]:
        return [version for version in self.subjects.get(subject, []) if not version.deleted]

    def _versions(self, subject: str, query: dict[str, str]) -> list[Version]:
        deleted = query.get("deleted") == "true"
        found = self.subjects.get(subject, []) if deleted else self._known(subject)
        if not found:
            raise Fault(404, 40401)
        return found

    def _version(self, subject: str, which: str, query: dict[str, str]) -> Version:
        found = self._versions(subject, query)
        if which in ("latest", "-1"):
            return found[-1]
        for version in found:
            if str(version.number) == which:
                return version
        raise Fault(404, 40402)

    def _shown(self, subject: str, version: Version) -> dict[str, Any]:
        shown: dict[str, Any] = {"subject": subject, "version": version.number, "id": version.schema_id}
        if version.schema_type != "AVRO":
            shown["schemaType"] = version.schema_type
        if version.references:
            shown["references"] = version.references
        return shown | {"schema": version.text}

    def _wanted(self, body: Any, query: dict[str, str]) -> tuple[str, str, list[Any]]:
        text = body["schema"]
        if query.get("normalize") == "true":
            text = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
        return body.get("schemaType") or "AVRO", text, body.get("references") or []

    def _look_up(self, subject: str, body: Any, query: dict[str, str]) -> dict[str, Any]:
        schema_type, text, references = self._wanted(body, query)
        sample = Version(0, 0, schema_type, text, references)
        for version in self._versions(subject, query):
            if version.content == sample.content:
                return self._shown(subject, version)
        raise Fault(404, 40403)

    def _register(self, subject: str, body: Any, query: dict[str, str]) -> Version:
        schema_type, text, references = self._wanted(body, query)
        made = Version(0, 0, schema_type, text, references)
        for version in self._known(subject):
            if version.content == made.content:
                return version
        versions = self.subjects.setdefault(subject, [])
        made.number = max((version.number for version in versions), default=0) + 1
        made.schema_id = self.ids.setdefault(made.content, len(self.ids) + 1)
        versions.append(made)
        return made

    def _doomed(self, subject: str, query: dict[str, str]) -> list[Version]:
        permanent = query.get("permanent") == "true"
        if permanent and self._known(subject):
            raise Fault(404, 40405)
        return list(self._versions(subject, {"deleted": "true"} if permanent else {}))

    def _delete(self, subject: str, version: Version, query: dict[str, str]) -> int:
        if query.get("permanent") == "true":
            if not version.deleted:
                raise Fault(404, 40407)
            self.subjects[subject].remove(version)
        version.deleted = True
        return version.number

    def _setting(self, method: str, setting: str, subject: str, body: Any) -> dict[str, str]:
        asked, shown = ("compatibility", "compatibilityLevel") if setting == "config" else ("mode", "mode")
        place = (setting, subject)
        if method == "PUT":
            self.settings[place] = body[asked].upper()
            return {asked: self.settings[place]}
        if place not in self.settings:
            if subject:
                raise Fault(404, 40408 if setting == "config" else 40409)
            return {shown: "BACKWARD" if setting == "config" else "READWRITE"}
        found = self.settings.pop(place) if method == "DELETE" else self.settings[place]
        return {shown: found}


def _handler(registry: StandInRegistry) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            path, _, raw_query = self.path.partition("?")
            query = {name: values[-1] for name, values in parse_qs(raw_query).items()}
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                with lock:
                    value, status = registry.answer(self.command, path, query, json.loads(raw) if raw else None), 200
            except Fault as fault:
                value, status = {"error_code": fault.code, "message": "stand-in"}, fault.status
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", JSON[0][1])
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the names that the server calls

        def log_message(self, *_args: object) -> None:
            """Says nothing."""

    return Handler


@pytest.fixture(scope="module")
def stand_in_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(StandInRegistry()))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True, slots=True)
class Place:
    """A registry's address, and the directory of the credentials for it, if it wants any."""

    url: str
    secrets: Path | None = None


@pytest.fixture(params=["stand-in", "apicurio"])
def place(request: pytest.FixtureRequest) -> Place:
    """The same tests on the small stand-in and on the real registry with its doors locked."""
    if request.param == "stand-in":
        return Place(request.getfixturevalue("stand_in_url"))
    stack: LocalStack = request.getfixturevalue("stack")
    return Place(stack.deployment.registry_url, stack.deployment.secrets("applier"))


# ---------------------------------------------------------------- the tests' hands


class Hands:
    """Makes operations from requests, as clients do, on subjects that no other test has."""

    def __init__(self, target: ConfluentTarget) -> None:
        self.target = target
        self.mark = uuid.uuid4().hex

    def subject(self, name: str = "orders") -> str:
        return f"{name}-{self.mark}"

    def operation(self, method: str, path: str, query: str = "", body: Any = None) -> tuple[Operation, HttpRequest]:
        raw = b"" if body is None else json.dumps(body).encode()
        request = HttpRequest(method, path, query, JSON if raw else (), raw)
        operation = classify("confluent", request)
        assert isinstance(operation, Operation), operation
        return operation, request

    def registering(self, subject: str, text: str, query: str = "", **over: Any) -> tuple[Operation, HttpRequest]:
        body = {"schemaType": "JSON", "schema": text} | over
        return self.operation("POST", f"/subjects/{encode(subject)}/versions", query, body)

    async def done(self, asked: tuple[Operation, HttpRequest]) -> HttpResponse:
        response = await self.target.send(*asked)
        assert response.status == 200, response
        return response

    async def register(self, subject: str, *texts: str, **over: Any) -> None:
        for text in texts:
            await self.done(self.registering(subject, text, **over))

    async def base(self, asked: tuple[Operation, HttpRequest]) -> Base:
        return await self.target.read_base(asked[0])


@pytest.fixture
async def hands(place: Place) -> AsyncIterator[Hands]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        if place.secrets is None:
            yield Hands(ConfluentTarget(Wire(place.url, http, read=NoCredentials(), write=NoCredentials())))
        else:
            read, write = load_credentials(place.secrets, TARGET, http, system_clock)
            yield Hands(ConfluentTarget(Wire(place.url, http, read=read, write=write)))


@pytest.fixture
async def confluent(stand_in_url: str) -> AsyncIterator[Hands]:
    """For what Confluent's registry does and Apicurio 3.3 does not: it keeps no soft-deleted versions, answers
    with a default where a subject has no setting of its own, and finds a schema by its content in any order."""
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Hands(ConfluentTarget(Wire(stand_in_url, http, read=NoCredentials(), write=NoCredentials())))


def text(number: int) -> str:
    """Schemas that differ in what no compatibility rule looks at."""
    return f'{{"$schema":"{DIALECT}","type":"object","title":"{number}"}}'


# ---------------------------------------------------------------- the base


async def test_nothing_is_the_base_of_a_new_subject(hands: Hands) -> None:
    asked = hands.registering(hands.subject(), text(1))
    assert await hands.base(asked) == Base("none")


async def test_the_latest_version_is_the_base(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1), text(2))
    base = await hands.base(hands.registering(subject, text(3)))
    assert base.identity == f"v2:id{base.schema_id}"
    assert (base.version, base.schema_type, base.schema_text) == (2, "JSON", text(2))
    assert (base.references, base.config) == ((), None)


@pytest.mark.parametrize("name", ["orders ü+&=%", ":.team:orders", "名前"])
async def test_any_name_is_one_subject(hands: Hands, name: str) -> None:
    subject = hands.subject(name)
    await hands.register(subject, text(1))
    base = await hands.base(hands.registering(subject, text(2)))
    assert (base.version, base.schema_text) == (1, text(1))


async def test_avro_is_what_a_registry_does_not_name(hands: Hands) -> None:
    subject = hands.subject()
    record = '{"type":"record","name":"A","fields":[]}'
    await hands.register(subject, record, schemaType="AVRO")
    assert (await hands.base(hands.registering(subject, text(2)))).schema_type == "AVRO"


async def test_references_are_part_of_the_base(hands: Hands) -> None:
    referred, subject = hands.subject("referred"), hands.subject()
    await hands.register(referred, f'{{"$schema":"{DIALECT}","type":"string"}}')
    whole = f'{{"$schema":"{DIALECT}","type":"object","properties":{{"a":{{"$ref":"a.json"}}}}}}'
    await hands.register(subject, whole, references=[{"name": "a.json", "subject": referred, "version": 1}])
    base = await hands.base(hands.registering(subject, whole))
    assert base.references == (Reference("a.json", referred, 1),)


async def test_a_deletion_starts_from_all_versions(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1), text(2), text(3))
    await hands.done(hands.operation("DELETE", f"/subjects/{subject}/versions/2"))
    base = await hands.base(hands.operation("DELETE", f"/subjects/{subject}"))
    assert (base.version, base.versions) == (3, (1, 3))


async def test_what_was_deleted_softly_is_still_what_a_change_starts_from(confluent: Hands) -> None:
    hands = confluent
    subject = hands.subject()
    await hands.register(subject, text(1), text(2))
    before = await hands.base(hands.registering(subject, text(3)))
    await hands.done(hands.operation("DELETE", f"/subjects/{subject}"))
    base = await hands.base(hands.registering(subject, text(3)))
    assert base.identity == f"deleted:{before.identity}"
    assert (base.version, base.versions, base.schema_text) == (2, (1, 2), text(2))


async def test_what_was_deleted_for_good_is_gone(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1))
    await hands.done(hands.operation("DELETE", f"/subjects/{subject}"))
    await hands.done(hands.operation("DELETE", f"/subjects/{subject}", "permanent=true"))
    assert await hands.base(hands.registering(subject, text(1))) == Base("none")


@pytest.mark.parametrize(
    ("setting", "member_name", "value", "shown"),
    [("config", "compatibility", "FULL_TRANSITIVE", "compatibilityLevel"), ("mode", "mode", "READONLY", "mode")],
)
async def test_a_setting_is_its_own_base_and_moves_no_version(
    confluent: Hands, setting: str, member_name: str, value: str, shown: str
) -> None:
    hands = confluent
    subject = hands.subject()
    await hands.register(subject, text(1))
    version = await hands.base(hands.registering(subject, text(2)))
    asked = hands.operation("PUT", f"/{setting}/{subject}", "", {member_name: value})
    assert await hands.base(asked) == Base(f"{setting}:none")
    await hands.done(asked)
    base = await hands.base(asked)
    assert (base.identity, base.version) == (f"{setting}:{value}", None)
    assert json.loads(base.config or "")[shown] == value
    assert await hands.base(hands.registering(subject, text(2))) == version


async def test_a_whole_registry_always_has_its_settings(hands: Hands) -> None:
    base = await hands.base(hands.operation("PUT", "/config", "", {"compatibility": "NONE"}))
    assert base.identity.startswith("config:")
    assert not base.identity.endswith(":none")


# ---------------------------------------------------------------- look up


async def test_what_exists_is_answered_as_the_registry_would(hands: Hands) -> None:
    subject = hands.subject()
    first = hands.registering(subject, text(1))
    answered = await hands.done(first)
    await hands.register(subject, text(2))
    found = await hands.target.look_up(first[0])  # an old version too: serializers repeat these
    assert found is not None
    assert (found.status, member(found, "id")) == (200, member(answered, "id"))
    assert set(json.loads(found.body)) == {"id"}


async def test_what_is_new_is_not_found(hands: Hands) -> None:
    subject, other = hands.subject(), hands.subject("other")
    await hands.register(subject, text(1))
    assert await hands.target.look_up(hands.registering(subject, text(2))[0]) is None
    assert await hands.target.look_up(hands.registering(other, text(1))[0]) is None


async def test_what_was_deleted_is_new(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1))
    await hands.done(hands.operation("DELETE", f"/subjects/{subject}"))
    assert await hands.target.look_up(hands.registering(subject, text(1))[0]) is None


def reordered() -> tuple[str, str]:
    """One schema as two texts; the second has its members in the order of their names."""
    members = {"type": "object", "title": "1", "$schema": DIALECT}
    return json.dumps(members), json.dumps(members, sort_keys=True)


async def test_normalisation_is_the_registrys(hands: Hands) -> None:
    subject, (written, normal) = hands.subject(), reordered()
    await hands.register(subject, normal, query="normalize=true")
    assert await hands.target.look_up(hands.registering(subject, written, "normalize=true")[0]) is not None


async def test_other_text_is_another_schema_where_the_registry_says_so(confluent: Hands) -> None:
    subject, (written, normal) = confluent.subject(), reordered()
    await confluent.register(subject, written)
    assert await confluent.target.look_up(confluent.registering(subject, normal)[0]) is None


@pytest.mark.parametrize(
    "over",
    [{"id": 999_999_999}, {"version": 7}, {"schemaTagsToAdd": [{"schemaEntity": {}, "tags": ["PII"]}]}],
    ids=["another id", "another version", "tags"],
)
async def test_a_body_that_asks_for_more_is_no_repeat(hands: Hands, over: dict[str, Any]) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1))
    assert await hands.target.look_up(hands.registering(subject, text(1), **over)[0]) is None


async def test_only_a_registration_is_looked_up(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1))
    assert await hands.target.look_up(hands.operation("DELETE", f"/subjects/{subject}")[0]) is None


# ---------------------------------------------------------------- probe


async def test_a_registration_whose_answer_was_lost(hands: Hands) -> None:
    subject = hands.subject()
    asked = hands.registering(subject, text(1))
    base = (await hands.base(asked)).identity
    assert await hands.target.probe(asked[0], base) == NotHappened()
    answered = await hands.done(asked)
    told = await hands.target.probe(asked[0], base)
    assert isinstance(told, Happened)
    assert told.answer is not None
    assert member(told.answer, "id") == member(answered, "id")


@pytest.mark.parametrize("which", ["2", "latest"])
async def test_a_deleted_version_whose_answer_was_lost(hands: Hands, which: str) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1), text(2))
    asked = hands.operation("DELETE", f"/subjects/{subject}/versions/{which}")
    base = (await hands.base(asked)).identity
    assert await hands.target.probe(asked[0], base) == NotHappened()
    answered = await hands.done(asked)
    told = await hands.target.probe(asked[0], base)
    # `latest` is another version now; it is judged by the base that it started from.
    assert isinstance(told, Happened)
    assert told.answer is not None
    assert json.loads(told.answer.body) == json.loads(answered.body) == 2


async def test_a_deleted_subject_whose_answer_was_lost(confluent: Hands) -> None:
    hands = confluent
    subject = hands.subject()
    await hands.register(subject, text(1), text(2))
    soft = hands.operation("DELETE", f"/subjects/{subject}")
    base = (await hands.base(soft)).identity
    assert await hands.target.probe(soft[0], base) == NotHappened()
    answered = await hands.done(soft)
    told = await hands.target.probe(soft[0], base)
    assert isinstance(told, Happened)
    assert told.answer is not None
    assert json.loads(told.answer.body) == json.loads(answered.body) == [1, 2]

    hard = hands.operation("DELETE", f"/subjects/{subject}", "permanent=true")
    base = (await hands.base(hard)).identity
    assert await hands.target.probe(hard[0], base) == NotHappened()
    await hands.done(hard)
    assert await hands.target.probe(hard[0], base) == Happened(None)


async def test_a_deleted_subject_is_known_to_be_gone(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1), text(2))
    asked = hands.operation("DELETE", f"/subjects/{subject}")
    base = (await hands.base(asked)).identity
    assert await hands.target.probe(asked[0], base) == NotHappened()
    await hands.done(asked)
    assert isinstance(await hands.target.probe(asked[0], base), Happened)


async def test_a_deletion_of_what_was_not_there_tells_nothing(hands: Hands) -> None:
    asked = hands.operation("DELETE", f"/subjects/{hands.subject()}")
    assert await hands.target.probe(asked[0], (await hands.base(asked)).identity) == Unknown()


@pytest.mark.parametrize(
    ("setting", "member_name", "value"), [("config", "compatibility", "full"), ("mode", "mode", "READONLY")]
)
async def test_a_setting_whose_answer_was_lost(confluent: Hands, setting: str, member_name: str, value: str) -> None:
    hands = confluent
    subject = hands.subject()
    await hands.register(subject, text(1))
    put = hands.operation("PUT", f"/{setting}/{subject}", "", {member_name: value})
    base = (await hands.base(put)).identity
    assert await hands.target.probe(put[0], base) == NotHappened()
    await hands.done(put)
    told = await hands.target.probe(put[0], base)
    assert isinstance(told, Happened)
    assert told.answer is not None
    assert member(told.answer, member_name) == value.upper()

    delete = hands.operation("DELETE", f"/{setting}/{subject}")
    base = (await hands.base(delete)).identity
    assert await hands.target.probe(delete[0], base) == NotHappened()
    await hands.done(delete)
    assert await hands.target.probe(delete[0], base) == Happened(None)
    assert await hands.target.probe(delete[0], f"{setting}:none") == Unknown()


async def test_a_setting_with_more_in_it_than_one_level_cannot_be_told(hands: Hands) -> None:
    body = {"compatibility": "FULL", "normalize": True}
    asked = hands.operation("PUT", f"/config/{hands.subject()}", "", body)
    assert await hands.target.probe(asked[0], "config:none") == Unknown()


# ---------------------------------------------------------------- read back


async def test_what_was_stored_is_read_back(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1))
    asked = hands.registering(subject, text(2))
    before = await hands.base(asked)
    back = await hands.target.read_back(asked[0], before, await hands.done(asked))
    assert (back.base.version, back.finding) == (2, None)


async def test_what_somebody_else_did_meanwhile_is_a_finding(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1))
    asked = hands.registering(subject, text(2))
    before = await hands.base(asked)
    answered = await hands.done(asked)
    await hands.register(subject, text(3))
    assert (await hands.target.read_back(asked[0], before, answered)).finding == "latest_is_another_id"
    assert (await hands.target.read_back(asked[0], before, None)).finding == "stored_text_differs"

    skipped = hands.registering(subject, text(4))
    answered = await hands.done(skipped)
    assert (await hands.target.read_back(skipped[0], before, answered)).finding == "version_not_next"


# ---------------------------------------------------------------- list


async def test_every_version_that_is_there_is_listed(hands: Hands) -> None:
    """More subjects than are asked for at once, each with something else about it."""
    many = [hands.subject(f"many-{n}") for n in range(10)]
    for subject in many:
        await hands.register(subject, text(1), text(2))
    await hands.done(hands.operation("DELETE", f"/subjects/{many[3]}/versions/1"))
    await hands.done(hands.operation("DELETE", f"/subjects/{many[5]}"))
    odd = hands.subject("odd ü+&=")
    await hands.register(odd, '{"type":"string"}', schemaType="AVRO")
    listed = [item async for item in hands.target.list_all() if hands.mark in item.subject]
    expected = {(subject, n) for subject in many for n in (1, 2)} | {(odd, 1)}
    expected -= {(many[3], 1), (many[5], 1), (many[5], 2)}
    assert {(item.subject, item.version) for item in listed} == expected
    assert len(listed) == len(expected)
    by_place = {(item.subject, item.version): item for item in listed}
    found = by_place[many[0], 2]
    assert found == Stored(many[0], 2, found.schema_id, "JSON", text(2))
    assert by_place[odd, 1].schema_type == "AVRO"


async def test_a_read_gives_the_registrys_own_answer(hands: Hands) -> None:
    subject = hands.subject()
    await hands.register(subject, text(1))
    operation, request = hands.operation("GET", f"/subjects/{subject}/versions/latest")
    answer = await hands.target.read(operation, request)
    assert (answer.status, member(answer, "schema")) == (200, text(1))
    missing = await hands.target.read(*hands.operation("GET", f"/subjects/{hands.subject('none')}/versions"))
    assert (missing.status, member(missing, "error_code")) == (404, 40401)


async def test_reading_never_changes_and_changing_never_reads(hands: Hands) -> None:
    read, change = hands.operation("GET", "/subjects"), hands.registering(hands.subject(), text(1))
    with pytest.raises(ValueError, match="not a read"):
        await hands.target.read(*change)
    with pytest.raises(ValueError, match="not a change"):
        await hands.target.send(*read)
    assert await hands.base(change) == Base("none")


# ---------------------------------------------------------------- targets that are none


@asynccontextmanager
async def _answering(*answers: tuple[int, bytes]) -> AsyncIterator[ConfluentTarget]:
    """A target that gives these answers in turn, the last one for ever."""
    left = list(answers)

    def told(_request: httpx.Request) -> httpx.Response:
        status, content = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(status, content=content)

    async with httpx.AsyncClient(transport=httpx.MockTransport(told)) as http:
        yield ConfluentTarget(Wire("http://registry.test", http, read=NoCredentials(), write=NoCredentials()))


def _classified(request: HttpRequest) -> Operation:
    operation = classify("confluent", request)
    assert isinstance(operation, Operation)
    return operation


async def _listed(target: ConfluentTarget) -> list[Stored]:
    return [item async for item in target.list_all()]


REGISTERING = HttpRequest("POST", "/subjects/s/versions", "", JSON, b'{"schema":"{}","schemaType":"JSON"}')


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (401, b"{}", TargetRefused),
        (403, b"{}", TargetRefused),
        (408, b"{}", TargetUnavailable),
        (429, b"{}", TargetUnavailable),
        (500, b"{}", TargetUnavailable),
        (503, b"", TargetUnavailable),
        (200, b"<html>a login page</html>", TargetRefused),
        (200, b'{"version": "1", "id": 1}', TargetRefused),
        (302, b"", TargetRefused),
    ],
)
async def test_what_answers_out_of_its_dialect_is_not_believed(
    status: int, content: bytes, error: type[TargetUnavailable]
) -> None:
    """Above all it is never taken for "there is nothing yet"."""
    async with _answering((status, content)) as target:
        with pytest.raises(TargetUnavailable) as caught:
            await target.read_base(_classified(REGISTERING))
        assert type(caught.value) is error
        with pytest.raises(TargetUnavailable):
            await _listed(target)


@pytest.mark.parametrize(
    ("status", "content"), [(302, b""), (400, b"{}"), (200, b"<html>"), (200, b"{}"), (200, b'["1"]'), (200, b"null")]
)
async def test_versions_that_cannot_be_read_are_not_taken_for_none(status: int, content: bytes) -> None:
    """A deletion would be called done, and a subject would be missing from the inventory."""
    delete = _classified(HttpRequest("DELETE", "/subjects/s"))
    async with _answering((status, content)) as target:
        with pytest.raises(TargetRefused):
            await target.probe(delete, "v1:id1")
    async with _answering((200, b'["s"]'), (status, content)) as target:
        with pytest.raises(TargetRefused):
            await _listed(target)


async def test_a_subject_deleted_while_it_is_listed_is_left_out() -> None:
    async with _answering((200, b'["s"]'), (404, b"{}")) as target:
        assert await _listed(target) == []
    async with _answering((200, b'["s"]'), (200, b"[1]"), (404, b"{}")) as target:
        assert await _listed(target) == []


async def test_where_nobody_listens_nothing_was_sent() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_address[1]
    async with httpx.AsyncClient(trust_env=False) as http:
        target = ConfluentTarget(Wire(f"http://127.0.0.1:{port}", http, read=NoCredentials(), write=NoCredentials()))
        with pytest.raises(NotSent):
            await target.send(_classified(REGISTERING), REGISTERING)
