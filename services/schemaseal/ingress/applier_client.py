"""Ingress asks the applier for reads and bases; it has no way to a target of its own."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import httpx

from schemaseal.contracts.http import REQUEST_MEDIA_TYPE, HttpMessageError, HttpRequest, HttpResponse
from schemaseal.core.errors import TargetUnavailable
from schemaseal.registry.base import Base, BaseError


@dataclass(frozen=True, slots=True)
class Start:
    """Where a change starts: `existing` answers a repeated registration, else `base` is set."""

    existing: HttpResponse | None
    base: Base | None


class ApplierClient:
    """All methods raise `TargetUnavailable` when applier or target give no proper answer."""

    def __init__(self, http: httpx.AsyncClient, url: str, token: bytes, *, timeout_seconds: float) -> None:
        self._http, self._url = http, url.rstrip("/")
        self._authorization = "Bearer " + token.strip().decode("ascii")
        self._timeout = timeout_seconds

    async def read(self, target: str, request: HttpRequest) -> HttpResponse:
        response = await self._post("/internal/v1/read", target, request)
        try:
            return HttpResponse.from_bytes(response.content)
        except HttpMessageError as error:
            raise TargetUnavailable("the applier's answer is malformed") from error

    async def start(self, target: str, request: HttpRequest) -> Start:
        response = await self._post("/internal/v1/base", target, request)
        try:
            answer: Any = response.json()
            existing, base = answer["existing"], answer["base"]
            return Start(
                None if existing is None else HttpResponse.from_bytes(_raw(existing)),
                None if base is None else Base.from_bytes(_raw(base)),
            )
        except (ValueError, KeyError, TypeError, HttpMessageError, BaseError) as error:
            raise TargetUnavailable("the applier's answer is malformed") from error

    async def _post(self, path: str, target: str, request: HttpRequest) -> httpx.Response:
        try:
            response = await self._http.post(
                self._url + path,
                content=request.to_bytes(),
                headers={
                    "authorization": self._authorization,
                    "schemaseal-target": target,
                    "content-type": REQUEST_MEDIA_TYPE,
                },
                timeout=self._timeout,
            )
        except httpx.HTTPError as error:
            raise TargetUnavailable(f"the applier did not answer ({type(error).__name__})") from error
        if response.status_code != 200:
            raise TargetUnavailable(f"the applier answered {response.status_code}")
        return response


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
