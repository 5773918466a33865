"""Receipts: a client can prove later that its request was promised to the log.

Form: JWS compact serialization (RFC 7515), `alg` Ed25519 (RFC 9864), `typ` `schemaseal-receipt`, `kid` of
ingress; payload `{"id", "commitment" (hex), "at", "target"}`. `commitment` is the one in the leaf.
"""

from __future__ import annotations

import json
from datetime import datetime

from joserfc import jws
from joserfc.jwk import OKPKey

from schemaseal.contracts.timestamps import timestamp
from schemaseal.sealing.signing import Signer

ALGORITHM = "Ed25519"
TYPE = "schemaseal-receipt"


class Receipts:
    """Signs with ingress' own key."""

    def __init__(self, signer: Signer) -> None:
        self._kid = signer.key_id
        self._key = OKPKey.import_key(signer.key)

    def receipt(self, request_id: str, commitment: bytes, at: datetime, target: str | None) -> str:
        payload = {
            "id": request_id,
            "commitment": commitment.hex(),
            "at": timestamp(at),
            "target": target,
        }
        raw = json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()
        head = {"alg": ALGORITHM, "kid": self._kid, "typ": TYPE}
        return jws.serialize_compact(head, raw, self._key, algorithms=[ALGORITHM])
