"""Tokens verified with the keys that issuers publish: discovery and JWKS, cached, refreshed sparingly.

An unknown key id makes one refresh, at most one per issuer in `REFRESH_SECONDS`, whoever asks: a flood of
invented key ids costs the provider nothing. Keys that were seen stay known, so that a token can be checked
again as of an earlier time. While no key was ever had, an issuer is asked at most once in `RETRY_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, import_key

from schemaseal.core.errors import IdentityUnavailable
from schemaseal.core.settings import IssuerSettings
from schemaseal.identity.access_token import Refusal, Verified, check_access_token, peek

__all__ = ["Refusal", "TokenVerifier", "Verified"]

REFRESH_SECONDS = 10.0
RETRY_SECONDS = 1.0
log = logging.getLogger("schemaseal.identity")


@dataclass(slots=True)
class _Issuer:
    settings: IssuerSettings
    keys: dict[str, Any] = field(default_factory=dict)
    refreshed: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def key_set(self) -> KeySet:
        return KeySet(list(self.keys.values()))


class TokenVerifier:
    """Verifies access tokens of the configured issuers."""

    def __init__(
        self,
        issuers: Sequence[IssuerSettings],
        http: httpx.AsyncClient,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuers = {issuer.url: _Issuer(issuer) for issuer in issuers}
        self._http = http
        self._monotonic = monotonic

    @classmethod
    def from_settings(cls, issuers: Sequence[IssuerSettings], http: httpx.AsyncClient) -> TokenVerifier:
        return cls(issuers, http)

    async def warm(self) -> None:
        """Fetch every issuer's keys once; an issuer that does not answer is tried again when needed."""
        for issuer in self._issuers.values():
            try:
                await self._refresh(issuer)
            except IdentityUnavailable as error:
                log.warning("%s", error)

    async def verify(self, token: str, now: datetime) -> Verified | Refusal:
        """Who the token's holder is. Raises `IdentityUnavailable` when its issuer's keys cannot be had."""
        return await self.verify_at(token, now)

    async def verify_at(self, token: str, at: datetime) -> Verified | Refusal:
        """As `verify`, judged as of `at`: a sealed token is checked again at its record's time."""
        peeked = peek(token)
        if isinstance(peeked, Refusal):
            return peeked
        header, claims = peeked
        url = claims.get("iss")
        issuer = self._issuers.get(url) if isinstance(url, str) else None
        if issuer is None:
            return Refusal("bad_issuer", "the token is not from an issuer that is trusted here")
        kid = header.get("kid")
        if not isinstance(kid, str) or kid not in issuer.keys:
            await self._refresh(issuer)
        return check_access_token(token, issuer.settings, issuer.key_set(), at)

    def jwks_snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Issuer → public keys seen so far: what is archived to check tokens years later."""
        return {
            url: [key.as_dict(private=False) for key in issuer.keys.values()] for url, issuer in self._issuers.items()
        }

    async def _refresh(self, issuer: _Issuer) -> None:
        async with issuer.lock:
            if issuer.keys and self._monotonic() - issuer.refreshed < REFRESH_SECONDS:
                return  # somebody just asked: what is known is all there is
            if self._monotonic() - issuer.refreshed < RETRY_SECONDS:
                raise _unavailable(issuer.settings, "it was just asked in vain")
            try:
                fetched = await self._fetch(issuer.settings)
            except _FETCH_FAILURES as error:
                issuer.refreshed = self._monotonic()
                if issuer.keys:
                    return
                raise _unavailable(issuer.settings, type(error).__name__) from error
            issuer.refreshed = self._monotonic()
            issuer.keys |= {str(key.kid): key for key in fetched if key.kid}

    async def _fetch(self, settings: IssuerSettings) -> list[Key]:
        discovery = await self._http.get(f"{settings.url.rstrip('/')}/.well-known/openid-configuration")
        discovery.raise_for_status()
        document = discovery.json()
        if document["issuer"] != settings.url:
            raise ValueError("the discovery document is of another issuer")
        answer = await self._http.get(document["jwks_uri"])
        answer.raise_for_status()
        return [key for jwk in answer.json()["keys"] if (key := _asymmetric(jwk)) is not None]


_FETCH_FAILURES = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, RecursionError)


def _unavailable(settings: IssuerSettings, why: str) -> IdentityUnavailable:
    return IdentityUnavailable(
        f"the keys of issuer {settings.url} cannot be had ({why})", hint="check that the identity provider answers"
    )


def _asymmetric(jwk: Any) -> Key | None:
    """A public key we can use. RFC 7517 §5: one that is not understood is passed over, the others count."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        return import_key(jwk)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
