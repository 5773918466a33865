"""Keys of a whole deployment and releases signed with them, for the tests of applier, ingress and decisions."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemaseal.contracts import codec
from schemaseal.contracts.events import ChangeReleased, ReleaseOrder, SealedPart
from schemaseal.contracts.http import REQUEST_MEDIA_TYPE, HttpRequest
from schemaseal.contracts.records import Record
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import RECIPIENTS, PrivateKeys, PublicKeys, generate_recipient
from schemaseal.sealing.signing import RELEASE_DOMAIN, Signer

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
JSON = (("content-type", "application/json"),)
SCHEMA = '{"type":"object"}'
BODY = json.dumps({"schemaType": "JSON", "schema": SCHEMA}).encode()
REGISTER = HttpRequest("POST", "/subjects/orders/versions", "", JSON, BODY)


class Keys:
    """Every recipient's key and the signing keys of ingress and streams."""

    def __init__(self, root: Path) -> None:
        self.signers = {"ingress": Signer("ingress", b"i" * 32), "streams": Signer("streams", b"s" * 32)}
        self.public = PublicKeys(
            {
                "recipients": {name: [generate_recipient(name, 1, root / name)] for name in RECIPIENTS},
                "signers": {
                    name: [{"kid": signer.key_id, "public": signer.public.hex()}]
                    for name, signer in self.signers.items()
                },
            }
        )
        self.private = {name: PrivateKeys.load(root / name) for name in RECIPIENTS}

    def seal_request(self, data: bytes, *names: str) -> SealedPart:
        recipients = self.public.recipients(*(names or ("streams", "applier", "custody")))
        return seal(data, recipients, name="request", media_type=REQUEST_MEDIA_TYPE)


@dataclass(slots=True)
class Releases:
    """Makes orders and signs them as streams do."""

    keys: Keys

    def order(self, request: HttpRequest = REGISTER, /, **over: Any) -> ReleaseOrder:
        sealed = self.keys.seal_request(request.to_bytes())
        made = ReleaseOrder(
            release_id="release-1",
            change_id="change-1",
            target="registry",
            operation="register",
            commitment=sealed.commitment,
            base_identity="v1:id7",
            deadline=T0 + timedelta(hours=1),
            policy_sha256="p",
            votes=("vote-1",),
            request=sealed,
        )
        return replace(made, **over)

    def signed(self, order: ReleaseOrder, *, by: str = "streams", domain: bytes = RELEASE_DOMAIN) -> ChangeReleased:
        signer, data = self.keys.signers[by], codec.encode(order)
        return ChangeReleased(order=data, key_id=signer.key_id, signature=signer.sign(domain, data))


def record_of(released: ChangeReleased, *, at: datetime = T0, offset: int = 0, key: bytes | None = b"key") -> Record:
    return Record("changes.released", 0, offset, key, codec.encode(released), at)
