"""One tree of failures. Expected outcomes (a refused vote, a denied request) are values, not exceptions.

SchemasealError
├── SettingsError       a setting is missing or wrong; says which and what to write
├── NotRecorded         a message could not be made durable; the caller must not go on
├── SealingError        sealed bytes could not be made or opened
│   └── KeyringError    a key file is missing, unreadable or readable by others
├── IdentityUnavailable an identity provider did not answer; try again, nothing was decided
├── TargetUnavailable   the registry did not answer; nothing is known about it
└── EvidenceMismatch    store, log and checkpoint disagree; nothing more is signed
"""

from __future__ import annotations


class SchemasealError(Exception):
    """Base of all failures. `str(error)` is one sentence for a person; `hint` says what to do."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class SettingsError(SchemasealError):
    """Settings that do not load; the text lists every fault at once."""


class NotRecorded(SchemasealError):  # noqa: N818 - the name is the outcome
    """The broker did not acknowledge. Nothing that depends on the record may happen."""


class SealingError(SchemasealError):
    """Sealed bytes could not be made or opened, or do not match their commitment."""


class KeyringError(SealingError):
    """A key file is missing, malformed, or readable by others than its owner."""


class IdentityUnavailable(SchemasealError):  # noqa: N818
    """An issuer could not be reached and nothing cached answers. Fail closed and try again."""


class TargetUnavailable(SchemasealError):  # noqa: N818
    """The target did not answer. Whether it did anything is unknown."""


class EvidenceMismatch(SchemasealError):  # noqa: N818
    """ClickHouse, Kafka and the last checkpoint disagree. The service stops and signs nothing."""


class StoreUnavailable(SchemasealError):  # noqa: N818 - named for what it is
    """ClickHouse did not answer; what was sent may or may not be stored. Read back before going on."""
