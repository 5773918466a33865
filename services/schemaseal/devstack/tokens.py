"""Get tokens from the local provider, as a login page or a CI platform would hand them out."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

from schemaseal.core.errors import IdentityUnavailable, SchemasealError


class LoginRefused(SchemasealError):  # noqa: N818 - named for what it is
    """The provider did not accept the credentials."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one grant gave."""

    access_token: str = field(repr=False)
    expires_in: int
    id_token: str | None = field(default=None, repr=False)


def _grant(issuer: str, data: dict[str, str], auth: tuple[str, str] | None) -> Tokens:
    try:
        answer = httpx.post(f"{issuer}/token", data=data, auth=auth, timeout=30)
    except httpx.HTTPError as error:
        raise IdentityUnavailable(
            f"the identity provider at {issuer} does not answer", hint="is `schemaseal up` running?"
        ) from error
    if answer.status_code != 200:
        raise LoginRefused(f"the identity provider refused: {answer.status_code}")
    body = answer.json()
    return Tokens(body["access_token"], int(body["expires_in"]), body.get("id_token"))


def fetch_token(issuer: str, user: str, password: str, *, scope: str = "", audience: str | None = None) -> Tokens:
    """Tokens of a person. Raises `LoginRefused` or `IdentityUnavailable`."""
    data = {"grant_type": "password", "username": user, "password": password, "scope": scope}
    data["client_id"] = "schemaseal-cli"
    if audience is not None:
        data["audience"] = audience
    return _grant(issuer, data, None)


def fetch_client_token(
    issuer: str, client_id: str, secret: str, *, run_by: str | None = None, audience: str | None = None
) -> Tokens:
    """Tokens of a machine; `run_by` is who set the run off, as a CI platform would vouch for."""
    data = {"grant_type": "client_credentials"}
    if run_by is not None:
        data["run_by"] = run_by
    if audience is not None:
        data["audience"] = audience
    return _grant(issuer, data, (client_id, secret))
