"""The base: what a change starts from, as the target has it, and its identity.

Identity (in clear on topics, so it holds numbers and enumerations only): `v<version>:id<id>` of the latest
version of the subject, `deleted:v<version>:id<id>` when only soft-deleted versions are left, or `none`;
`config:<LEVEL>` and `mode:<MODE>`, `…:none` where nothing is set; `unversioned` elsewhere. All operations of
one scope (`operation.subject_scope`) have the same kind of identity, so that one's outcome can move another.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from schemaseal.registry.operation import Reference

BASE_MEDIA_TYPE = "application/vnd.schemaseal.base.v1+json"
NONE = "none"
DELETED = "deleted:"
UNVERSIONED = "unversioned"


class BaseError(ValueError):
    """Bytes that are not a base."""


@dataclass(frozen=True, slots=True)
class Base:
    """`schema_text` is the latest version's schema exactly as the target stores it.

    `versions` are the numbers that exist (filled where the operation needs them); `config` is the value text
    that a configuration or mode change starts from.
    """

    identity: str
    version: int | None = None
    schema_id: int | None = None
    schema_type: str | None = None
    schema_text: str | None = None
    references: tuple[Reference, ...] = ()
    versions: tuple[int, ...] = ()
    config: str | None = None

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Base:
        """Raises `BaseError`."""
        try:
            raw: dict[str, Any] = json.loads(data)
            raw["references"] = tuple(Reference(**item) for item in raw["references"])
            raw["versions"] = tuple(raw["versions"])
            return cls(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise BaseError("not a base") from error


def number_in(identity: str) -> int | None:
    """The latest version number an identity names, or None."""
    text = identity.removeprefix(DELETED)
    if not text.startswith("v"):
        return None
    digits = text[1:].partition(":")[0]
    return int(digits) if digits.isdecimal() and digits.isascii() else None
