"""Verify one JWT access token against one issuer's keys. Pure.

Source: RFC 9068 §4 (validating JWT access tokens), RFC 8725 (JWT best current practices). Steps in code
order: 1 shape, 2 type, 3 algorithm, 4 key, 5 signature, 6 issuer, 7 audience, 8 times, 9 subject and client.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from schemaseal.contracts.events import Actor, Person
from schemaseal.core.settings import IssuerSettings

MAX_TOKEN = 16 * 1024
ACCESS_TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})
VERIFIED = ("typ", "alg", "kid", "iss", "aud", "exp", "iat", "nbf", "sub", "client_id")


@dataclass(frozen=True, slots=True)
class Verified:
    """Who it is, and for a machine the person who set it off, if the issuer says."""

    actor: Actor
    initiator: Person | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a token does not count: a stable code for the record, a sentence that tells the client enough."""

    code: str
    text: str


def _json(part: str) -> dict[str, Any] | None:
    try:
        padded = part + "=" * (-len(part) % 4)
        if not part.isascii() or any(char in part for char in "+/= \n\r\t"):
            return None
        value = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]] | Refusal:
    """Header and claims, not verified: only to find the issuer and the key."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN or len(parts) != 3 or not all(parts):
        return Refusal("malformed", "the token is not a signed JWT")
    header, claims = _json(parts[0]), _json(parts[1])
    if header is None or claims is None:
        return Refusal("malformed", "the token is not a signed JWT")
    return header, claims


def _moment(claims: Mapping[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    # 2**37 seconds is the year 6325; 2**38 is beyond what a datetime can hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**37:
        return None
    return datetime.fromtimestamp(value, UTC).replace(microsecond=0)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(item for item in value if isinstance(item, str))
    return ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def check_access_token(token: str, issuer: IssuerSettings, keys: KeySet, now: datetime) -> Verified | Refusal:
    """The token's holder, or the first reason against it. `now`: the time to judge expiry by."""
    peeked = peek(token)
    if isinstance(peeked, Refusal):
        return peeked
    header, _ = peeked
    if str(header.get("typ", "")).lower() not in ACCESS_TOKEN_TYPES:
        return Refusal("wrong_token_type", "this is not an access token; send the access token")
    algorithm = header.get("alg")
    if algorithm not in issuer.algorithms:
        return Refusal("bad_algorithm", "the token's algorithm is not accepted")
    if header.get("crit") or header.get("b64") is False:
        return Refusal("malformed", "the token's header asks for extensions")
    kid = _text(header.get("kid"))
    key = next((key for key in keys.keys if kid is not None and key.kid == kid), None)
    if key is None or kid is None:
        return Refusal("unknown_key", "the token is signed with a key that the issuer does not publish")
    try:
        signed = jws.deserialize_compact(token, key, algorithms=[str(algorithm)])
        claims = json.loads(signed.payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        return Refusal("bad_signature", "the token's signature is wrong")
    if not isinstance(claims, dict):
        return Refusal("malformed", "the token holds no claims")
    refusal = _check_claims(claims, issuer, now)
    if refusal is not None:
        return refusal
    return _verified(claims, issuer, kid, key.thumbprint())


def _check_claims(claims: dict[str, Any], issuer: IssuerSettings, now: datetime) -> Refusal | None:
    skew = issuer.skew_seconds
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    not_before = _moment(claims, "nbf") if "nbf" in claims else issued
    if claims.get("iss") != issuer.url:
        return Refusal("bad_issuer", "the token is not from an issuer that is trusted here")
    if issuer.audience not in _texts(claims.get("aud")):
        return Refusal("wrong_audience", "the token is meant for somebody else")
    if "nonce" in claims or "at_hash" in claims:
        return Refusal("wrong_token_type", "this is an ID token; send the access token")
    if expires is None or issued is None or not_before is None:
        return Refusal("missing_claim", "the token does not say when it is valid")
    if (now - expires).total_seconds() >= skew:
        return Refusal("expired", "the token has expired; get a new one")
    if (not_before - now).total_seconds() > skew or (issued - now).total_seconds() > skew:
        return Refusal("not_yet_valid", "the token is not valid yet")
    if _text(claims.get("sub")) is None or _text(claims.get("client_id") or claims.get("azp")) is None:
        return Refusal("missing_claim", "the token does not say whose it is")
    return None


def _verified(claims: dict[str, Any], issuer: IssuerSettings, kid: str, thumbprint: str) -> Verified:
    client_id = str(claims.get("client_id") or claims.get("azp"))
    auth_time = _moment(claims, "auth_time")
    # Interactive only when the issuer says that somebody logged in: a guess must never make a voter.
    human = auth_time is not None and client_id not in issuer.machine_clients
    carried = sorted(name for name in claims if name not in VERIFIED)
    actor = Actor(
        iss=issuer.url,
        sub=str(claims["sub"]),
        name=_text(claims.get(issuer.name_claim)),
        kind="human" if human else "service",
        client_id=client_id,
        groups=_texts(claims.get(issuer.groups_claim)),
        jti=_text(claims.get("jti")),
        auth_time=auth_time,
        acr=_text(claims.get("acr")),
        amr=_texts(claims.get("amr")),
        kid=kid,
        key_thumbprint=thumbprint,
        expires_at=_moment(claims, "exp"),
        verified=tuple(name for name in VERIFIED if name in claims or name in ("typ", "alg", "kid")),
        unverified=tuple(carried),
    )
    return Verified(actor, None if human else _initiator(claims, issuer))


def _initiator(claims: dict[str, Any], issuer: IssuerSettings) -> Person | None:
    """The person behind a machine, as the issuer's signed claim says; None when it does not."""
    value = claims.get(issuer.initiator_claim) if issuer.initiator_claim else None
    if isinstance(value, dict):
        sub, iss = _text(value.get("sub")), value.get("iss", issuer.url)
        if sub is not None and iss == issuer.url:
            return Person(iss=issuer.url, sub=sub, name=_text(value.get("name")))
    return None
