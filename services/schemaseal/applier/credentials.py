"""Credentials for targets, from `target-<name>.json` in the applier's secrets directory.

Shape: `{"read": C, "write": C}`, each C one of `{"kind": "none"}`, `{"kind": "basic", "username",
"password"}`, `{"kind": "bearer", "token"}`, `{"kind": "oauth2_client_credentials", "token_url", "client_id",
"client_secret", "scope"?, "audience"?}` (RFC 6749 §4.4; fetched when first needed and again a minute before
it expires).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from schemaseal.core.clock import Clock
from schemaseal.core.errors import SettingsError, TargetUnavailable
from schemaseal.core.settings import read_secret
from schemaseal.registry.target import Credentials, NoCredentials

_EARLY = timedelta(seconds=60)
_DEFAULT_LIFE = 300


class FixedHeader:
    """Basic or bearer: the same header every time."""

    def __init__(self, value: str) -> None:
        self._value = value

    async def headers(self) -> Mapping[str, str]:
        return {"authorization": self._value}


class ClientCredentials:
    """An OAuth 2.0 access token that is fetched, kept, and fetched anew before it expires."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        clock: Clock,
        *,
        token_url: str,
        client_id: str,
        client_secret: str,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self._http, self._clock = http, clock
        self._url, self._auth = token_url, (client_id, client_secret)
        self._form = {"grant_type": "client_credentials", **(extra or {})}
        self._lock = asyncio.Lock()
        self._token = ""
        self._until: datetime | None = None

    async def headers(self) -> Mapping[str, str]:
        async with self._lock:  # one fetch, however many wait for it
            if self._until is None or self._clock() >= self._until:
                await self._fetch()
        return {"authorization": f"Bearer {self._token}"}

    async def _fetch(self) -> None:
        try:
            response = await self._http.post(self._url, data=self._form, auth=self._auth, follow_redirects=False)
        except httpx.HTTPError as error:
            raise TargetUnavailable(
                f"no token for the target: its issuer did not answer ({type(error).__name__})"
            ) from error
        try:
            answer: Any = response.json()
            token, life = answer["access_token"], answer.get("expires_in", _DEFAULT_LIFE)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TargetUnavailable(f"no token for the target: its issuer answered {response.status_code}") from error
        if response.status_code != 200 or not isinstance(token, str) or not isinstance(life, int | float):
            raise TargetUnavailable(f"no token for the target: its issuer answered {response.status_code}")
        self._token = token
        self._until = self._clock() + max(timedelta(seconds=life) - _EARLY, timedelta(seconds=life) / 2)


def load_credentials(
    directory: Path, target: str, http: httpx.AsyncClient, clock: Clock
) -> tuple[Credentials, Credentials]:
    """(read, write) of a target. Raises `SettingsError` that names the file and never its content."""
    name = f"target-{target}.json"
    try:
        document = json.loads(read_secret(directory, name))
        return _one(document["read"], http, clock), _one(document["write"], http, clock)
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"secret {name} is not of the expected shape ({type(error).__name__})",
            hint="it needs `read` and `write`, each with a `kind` and what that kind needs",
        ) from None


def _one(entry: dict[str, Any], http: httpx.AsyncClient, clock: Clock) -> Credentials:
    match entry:
        case {"kind": "none"}:
            return NoCredentials()
        case {"kind": "basic", "username": str(username), "password": str(password)}:
            pair = base64.b64encode(f"{username}:{password}".encode()).decode()
            return FixedHeader(f"Basic {pair}")
        case {"kind": "bearer", "token": str(token)}:
            return FixedHeader(f"Bearer {token}")
        case {
            "kind": "oauth2_client_credentials",
            "token_url": str(url),
            "client_id": str(client_id),
            "client_secret": str(secret),
        }:
            return ClientCredentials(
                http,
                clock,
                token_url=url,
                client_id=client_id,
                client_secret=secret,
                extra={name: str(entry[name]) for name in ("scope", "audience") if name in entry},
            )
    raise ValueError("unknown kind")
