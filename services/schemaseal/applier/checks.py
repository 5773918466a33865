"""May this release be sent? Pure: bytes, keys and time in, a checked order or a reason out.

1. signed by streams under the release domain; 2. the order decodes; 3. the target is ours; 4. the request
opens and is what the commitment names; 5. it classifies as the change that was released; 6. the deadline
has not passed, by the broker's clock and by ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from schemaseal.contracts import codec
from schemaseal.contracts.codec import ContractError
from schemaseal.contracts.events import ChangeReleased, ReleaseOrder
from schemaseal.contracts.http import HttpMessageError, HttpRequest
from schemaseal.core.errors import SealingError
from schemaseal.registry.classify import classify
from schemaseal.registry.operation import Operation
from schemaseal.sealing.box import open_sealed
from schemaseal.sealing.keys import PrivateKeys, PublicKeys
from schemaseal.sealing.signing import RELEASE_DOMAIN, verify

SIGNER = "streams"


@dataclass(frozen=True, slots=True)
class Checked:
    """An authentic release with its request opened and classified."""

    order: ReleaseOrder
    request: HttpRequest
    operation: Operation


@dataclass(frozen=True, slots=True)
class Refused:
    """Not to be sent. `order` is set only when the signature was right: then its change gets an outcome.

    `late` is the release itself where nothing but its deadline is wrong: a send of it may have been begun.
    """

    reason: str
    order: ReleaseOrder | None = None
    late: Checked | None = None


@dataclass(frozen=True, slots=True)
class ReleaseChecker:
    """Keys and target profiles (name → profile), fixed at start."""

    public: PublicKeys
    private: PrivateKeys
    profiles: Mapping[str, str]

    def check_release(self, released: ChangeReleased, *, recorded_at: datetime, now: datetime) -> Checked | Refused:
        """`recorded_at` is the broker's record time. The steps are those at the top, in that order."""
        if not verify(self.public, SIGNER, released.key_id, RELEASE_DOMAIN, released.order, released.signature):
            return Refused("bad_signature")
        try:
            order = codec.decode(ReleaseOrder, released.order)
        except ContractError:
            return Refused("bad_order")
        return self._check_order(order, max(recorded_at, now))

    def _check_order(self, order: ReleaseOrder, at: datetime) -> Checked | Refused:
        profile = self.profiles.get(order.target)
        if profile is None:
            return Refused("unknown_target", order)
        if order.request.commitment != order.commitment:
            return Refused("other_commitment", order)
        try:
            request = HttpRequest.from_bytes(open_sealed(order.request, self.private))
        except (SealingError, HttpMessageError):
            return Refused("request_unreadable", order)
        operation = classify(profile, request)
        if not isinstance(operation, Operation) or operation.kind != "change":
            return Refused("not_a_change", order)
        if operation.name != order.operation:
            return Refused("other_operation", order)
        checked = Checked(order, request, operation)
        return checked if at < order.deadline else Refused("lapsed", order, checked)
