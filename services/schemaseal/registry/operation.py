"""What a request means: values shared by all profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["read", "change"]
Family = Literal["versions", "config", "mode", "other"]
Certainty = Literal["conditional", "idempotent", "probe_decidable", "undecidable"]
"""What can be known after a send whose answer was lost: the target refuses a second one itself; a second one
changes nothing; asking the target tells; nothing tells."""

GLOBAL_SCOPE = ""
"""Scope of operations on a whole target. No subject has this name: empty path segments are refused."""


@dataclass(frozen=True, slots=True)
class Unclassified:
    """A request that nobody may pass on. `reason` is a code, `status` what the client is told."""

    reason: str
    status: int = 403


class RefusedError(ValueError):
    """Inside this room only: carries an `Unclassified` out of a step; `classify` turns it into the value."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.outcome = Unclassified(reason, status)


@dataclass(frozen=True, slots=True)
class Reference:
    """A named reference from one schema to a version of another subject."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """Body of a registration or a look-up. `schema_text` is the schema exactly as it is to be stored.

    `schema_id` and `version` are set when the client names them itself (import). `tags_changed`: the body
    adds or removes tags, so it is never a mere repeat.
    """

    schema_text: str | None
    schema_type: str
    references: tuple[Reference, ...] = ()
    metadata: Mapping[str, Any] | None = None
    rule_set: Mapping[str, Any] | None = None
    schema_id: int | None = None
    version: int | None = None
    tags_changed: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One classified request.

    `path` and `query` are canonical and percent-encoded: they are what is sent. `subject` is canonical (the
    default context is not spelled out), `version` a number in decimal or `latest`. `body` is the parsed JSON
    object of a request that carries one.
    """

    kind: Kind
    name: str
    method: str
    path: str
    query: str = ""
    subject: str | None = None
    version: str | None = None
    resource: str | None = None
    permanent: bool = False
    normalize: bool = False
    certainty: Certainty = "undecidable"
    body: Mapping[str, Any] | None = None
    body_schema: Envelope | None = None


def family(operation: Operation) -> Family:
    """Which kind of base the operation starts from."""
    if operation.name.endswith("_config"):
        return "config"
    if operation.name.endswith("_mode"):
        return "mode"
    return "versions" if operation.subject is not None else "other"


def subject_scope(operation: Operation) -> str:
    """What the topic key is made of: everything in one scope is ordered and shares one kind of base.

    The canonical subject for its versions, tags and deletion; for settings a scope of their own beside it
    (NUL cannot occur in a subject), because a setting does not move a version; `""` for the whole target.
    """
    kind = family(operation)
    if kind in ("config", "mode"):
        return f"\0{kind}\0{operation.subject or ''}"
    return operation.subject if operation.subject is not None else GLOBAL_SCOPE
