"""Profile `confluent`: look up, read the base, find out what happened, list everything.

A context given by path prefix is written into the subject (`:.team:orders`), which these registries take too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from schemaseal.contracts.http import HttpRequest, HttpResponse
from schemaseal.core.errors import TargetUnavailable
from schemaseal.registry.base import DELETED, NONE, UNVERSIONED, Base, number_in
from schemaseal.registry.bodies import canonical_json
from schemaseal.registry.operation import Operation, Reference, family
from schemaseal.registry.paths import encode
from schemaseal.registry.target import (
    Happened,
    NotHappened,
    Probe,
    ReadBack,
    TargetRefused,
    Unknown,
    Wire,
    json_answer,
    member,
    subject_path,
)

_LISTING_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """One version that a registry holds."""

    subject: str
    version: int
    schema_id: int
    schema_type: str
    schema_text: str
    references: tuple[Reference, ...] = ()


class ConfluentTarget:
    """One registry that speaks the Confluent-compatible API. All methods raise `TargetUnavailable`."""

    profile = "confluent"

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def read(self, operation: Operation, request: HttpRequest) -> HttpResponse:
        return await self.wire.read(operation, request)

    async def send(self, operation: Operation, request: HttpRequest) -> HttpResponse:
        return await self.wire.send(operation, request)

    async def look_up(self, operation: Operation) -> HttpResponse | None:
        """What a registration of something that exists already would be answered; None when it is new.

        The registry itself decides what is the same (normalisation, references); soft-deleted versions do
        not count, and neither does a body that names another id or version or changes tags.
        """
        envelope = operation.body_schema
        if operation.name != "register" or envelope is None or operation.subject is None:
            return None
        if envelope.schema_text is None or envelope.tags_changed:
            return None
        body = canonical_json(operation.body)
        query = "normalize=true" if operation.normalize else ""
        response = await self.wire.ask("POST", subject_path(operation.subject), query, body)
        found, version = member(response, "id"), member(response, "version")
        if response.status != 200 or not isinstance(found, int):
            return None
        if envelope.schema_id not in (None, found) or envelope.version not in (None, version):
            return None
        return json_answer({"id": found}, like=response)

    async def read_base(self, operation: Operation) -> Base:
        """What the change starts from, as it is now."""
        match family(operation):
            case "config":
                return await self._setting("config", operation.subject)
            case "mode":
                return await self._setting("mode", operation.subject)
            case "versions":
                assert operation.subject is not None  # noqa: S101 - what the family means
                return await self._subject(operation.subject, listed=operation.name != "register")
            case "other":
                return Base(UNVERSIONED)

    async def _subject(self, subject: str, *, listed: bool) -> Base:
        base = await self._version(subject, "latest")
        if base.identity == NONE:
            return await self._deleted(subject)
        return replace(base, versions=await self._versions(subject)) if listed else base

    async def _deleted(self, subject: str) -> Base:
        """The last soft-deleted version. Not every registry knows `latest` among these, all list them."""
        versions = await self._versions(subject, deleted=True)
        if not versions:
            return Base(NONE)
        base = await self._version(subject, str(max(versions)), deleted=True)
        if base.identity == NONE:
            return base
        return replace(base, identity=DELETED + base.identity, versions=versions)

    async def _version(self, subject: str, which: str, *, deleted: bool = False) -> Base:
        query = "deleted=true" if deleted else ""
        response = await self.wire.ask("GET", subject_path(subject, "versions", which), query)
        if response.status == 404:
            return Base(NONE)
        version, schema_id = member(response, "version"), member(response, "id")
        if response.status != 200 or not isinstance(version, int) or not isinstance(schema_id, int):
            raise TargetRefused(f"the target answered {response.status} when asked for a version")
        return Base(
            identity=f"v{version}:id{schema_id}",
            version=version,
            schema_id=schema_id,
            schema_type=member(response, "schemaType") or "AVRO",
            schema_text=member(response, "schema"),
            references=_references(member(response, "references")),
        )

    async def _versions(self, subject: str, *, deleted: bool = False) -> tuple[int, ...]:
        query = "deleted=true" if deleted else ""
        response = await self.wire.ask("GET", subject_path(subject, "versions"), query)
        if response.status == 404:
            return ()
        numbers = _numbers(response) if response.status == 200 else None
        if numbers is None:  # never taken for "nothing is left"
            raise TargetRefused(f"the target answered {response.status} when asked for the versions of a subject")
        return numbers

    async def _setting(self, setting: str, subject: str | None) -> Base:
        path = f"/{setting}" + (f"/{encode(subject)}" if subject is not None else "")
        response = await self.wire.ask("GET", path)
        if response.status == 404:
            return Base(f"{setting}:{NONE}", config=None)
        value = member(response, "compatibilityLevel" if setting == "config" else "mode")
        if response.status != 200 or not isinstance(value, str):
            raise TargetRefused(f"the target answered {response.status} to the question for its {setting}")
        level = value if value.isascii() and value.replace("_", "").isalpha() else "other"
        return Base(f"{setting}:{level}", config=response.body.decode("utf-8", "replace"))

    async def read_back(self, operation: Operation, before: Base, response: HttpResponse | None) -> ReadBack:
        """The base after a successful send, and what does not fit: the id, the text, or the number."""
        base = await self.read_base(operation)
        if operation.name != "register" or operation.body_schema is None:
            return ReadBack(base)
        if response is not None and member(response, "id") != base.schema_id:
            return ReadBack(base, "latest_is_another_id")
        if base.schema_text != operation.body_schema.schema_text and not operation.normalize:
            return ReadBack(base, "stored_text_differs")
        if base.version != (before.version or 0) + 1:
            return ReadBack(base, "version_not_next")
        return ReadBack(base)

    async def probe(self, operation: Operation, base_identity: str) -> Probe:
        """Did a change happen whose answer was lost? Judged against the base that it started from."""
        match operation.name:
            case "register":
                answer = await self.look_up(operation)
                return NotHappened() if answer is None else Happened(answer)
            case "delete_subject" | "delete_version":
                return await self._probe_delete(operation, base_identity)
            case "set_config" | "set_mode":
                return await self._probe_setting(operation)
            case "delete_config" | "delete_mode":
                base = await self.read_base(operation)
                if base_identity.endswith(f":{NONE}"):
                    return Unknown()
                return Happened(None) if base.identity.endswith(f":{NONE}") else NotHappened()
        return Unknown()

    async def _probe_delete(self, operation: Operation, base_identity: str) -> Probe:
        subject = operation.subject
        if subject is None or base_identity == NONE:
            return Unknown()
        left = await self._versions(subject, deleted=operation.permanent)
        if operation.name == "delete_subject":
            if left:
                return NotHappened()
            gone = () if operation.permanent else await self._versions(subject, deleted=True)
            return Happened(json_answer(list(gone)) if gone else None)
        number = number_in(base_identity) if operation.version == "latest" else int(operation.version or 0)
        if number is None:
            return Unknown()
        return NotHappened() if number in left else Happened(json_answer(number))

    async def _probe_setting(self, operation: Operation) -> Probe:
        base = await self.read_base(operation)
        body = operation.body or {}
        name = "compatibility" if operation.name == "set_config" else "mode"
        others = set(body) - {name, "compatibilityLevel"}
        wanted = body.get(name) or body.get("compatibilityLevel")
        if others or not isinstance(wanted, str):
            return Unknown()
        if base.identity.partition(":")[2] != wanted.upper():
            return NotHappened()
        return Happened(json_answer({name: wanted.upper()}))

    async def list_all(self) -> AsyncIterator[Stored]:
        """Every version of every subject that is not deleted, subject by subject in the registry's order."""
        response = await self.wire.ask("GET", "/subjects")
        try:
            names: Any = json.loads(response.body)
        except ValueError as error:
            raise TargetRefused("the target's list of subjects is not JSON") from error
        if response.status != 200 or not isinstance(names, list):
            raise TargetRefused(f"the target answered {response.status} to the question for its subjects")
        for start in range(0, len(names), _LISTING_AT_ONCE):
            chunk = [str(name) for name in names[start : start + _LISTING_AT_ONCE]]
            for listed in await asyncio.gather(*(self._stored(name) for name in chunk)):
                for item in listed:
                    yield item

    async def _stored(self, subject: str) -> list[Stored]:
        stored = []
        for number in await self._versions(subject):
            response = await self.wire.ask("GET", subject_path(subject, "versions", str(number)))
            if response.status == 404:
                continue  # deleted meanwhile
            schema_id, text = member(response, "id"), member(response, "schema")
            if not isinstance(schema_id, int) or not isinstance(text, str):
                raise TargetUnavailable("the target's answer for a version is not in its dialect")
            stored.append(
                Stored(
                    subject=subject,
                    version=number,
                    schema_id=schema_id,
                    schema_type=member(response, "schemaType") or "AVRO",
                    schema_text=text,
                    references=_references(member(response, "references")),
                )
            )
        return stored


def _numbers(response: HttpResponse) -> tuple[int, ...] | None:
    """The list of whole numbers that the answer is, or None when it is something else."""
    try:
        value = json.loads(response.body)
    except ValueError:
        return None
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        return None
    return tuple(value)


def _references(value: Any) -> tuple[Reference, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(
        Reference(item["name"], item["subject"], item["version"])
        for item in value
        if isinstance(item, dict) and {"name", "subject", "version"} <= set(item)
    )
