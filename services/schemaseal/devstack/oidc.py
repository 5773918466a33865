"""A development identity provider on Authlib: a stand-in, for one machine, with known users.

It speaks discovery, JWKS, the token endpoint (password grant for people, client credentials for machines)
and issues RFC 9068 access tokens and, for scope `openid`, ID tokens. There is no login page, no consent and
no revocation: do not put it on a network. Keycloak is what production is tested against.

    python -m schemaseal.devstack.oidc --port 8087 --data DIR

DIR holds `signing.jwk` and `users.json` (name → password), both 0600 and made at first start, and
`clients.json` (client → secret), written by whoever deploys.
"""

from __future__ import annotations

import argparse
import hmac
import json
import logging
import os
import secrets
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from flask import Flask, Response, jsonify
from joserfc import jwt
from joserfc.jwk import ECKey
from werkzeug.serving import make_server

from schemaseal.core.clock import system_clock

LIFETIME = 900
AUDIENCE = "schemaseal"
PEOPLE = {"alice": ["engineers"], "bob": ["schema-owners"], "carol": ["schema-owners"], "ana": ["auditors"]}
ROLES = {"schemaseal-applier": ["sr-admin"], "schemaseal-reader": ["sr-readonly"]}
CLI = "schemaseal-cli"
_NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "https://schemaseal.example/local-provider")


def subject_of(name: str) -> str:
    """The opaque, stable subject of a person or machine: names are not identities."""
    return str(uuid.uuid5(_NAMES, name))


def _private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


class Provider:
    """Keys, users and clients of one provider."""

    def __init__(self, issuer: str, data: Path) -> None:
        self.issuer = issuer
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file, users_file, clients_file = data / "signing.jwk", data / "users.json", data / "clients.json"
        if not key_file.exists():
            key = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8), "use": "sig", "alg": "ES256"})
            _private(key_file, json.dumps(key.as_dict(private=True)))
        if not users_file.exists():
            _private(users_file, json.dumps({name: secrets.token_urlsafe(12) for name in PEOPLE}))
        self.key = ECKey.import_key(json.loads(key_file.read_text("utf-8")))
        self.users: dict[str, str] = json.loads(users_file.read_text("utf-8"))
        self.clients: dict[str, str] = json.loads(clients_file.read_text("utf-8")) if clients_file.exists() else {}

    def sign(self, claims: dict[str, Any], kind: str) -> str:
        return jwt.encode({"alg": "ES256", "typ": kind, "kid": self.key.kid}, claims, self.key)

    def access_token(self, name: str, client_id: str, form: dict[str, str], *, person: bool) -> str:
        """An RFC 9068 access token. A machine's names who set it off, if the platform knows."""
        now = int(system_clock().timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": subject_of(name),
            "client_id": client_id,
            "aud": form.get("audience") or AUDIENCE,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": str(uuid.uuid4()),
            "preferred_username": name,
        }
        if person:
            claims |= {"auth_time": now, "acr": "1", "amr": ["pwd"], "groups": PEOPLE[name]}
        else:
            claims |= {"roles": ROLES.get(name, []), "groups": []}
            run_by = form.get("run_by")
            if run_by in PEOPLE:
                claims["initiator"] = {"sub": subject_of(run_by), "name": run_by}
        return self.sign(claims, "at+jwt")

    def id_token(self, name: str, client_id: str) -> str:
        now = int(system_clock().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": subject_of(name),
            "aud": client_id,
            "iat": now,
            "exp": now + LIFETIME,
            "auth_time": now,
            "nonce": secrets.token_hex(8),
            "preferred_username": name,
        }
        return self.sign(claims, "JWT")

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "grant_types_supported": ["password", "client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
        }


class _Client(ClientMixin):  # type: ignore[misc]  # Authlib ships no type information
    def __init__(self, client_id: str, secret: str | None) -> None:
        self.client_id, self._secret = client_id, secret

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_client_secret(self, client_secret: str) -> bool:
        return hmac.compare_digest(self._secret or "", client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return endpoint == "token" and method == ("none" if self._secret is None else "client_secret_basic")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == ("password" if self._secret is None else "client_credentials")


class _User:
    def __init__(self, name: str) -> None:
        self.name = name


def create_app(provider: Provider) -> Flask:
    """The provider's HTTP face."""
    app = Flask("schemaseal-devstack-oidc")

    class PasswordGrant(grants.ResourceOwnerPasswordCredentialsGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ["none"]  # noqa: RUF012 - Authlib's class attribute

        def authenticate_user(self, username: str, password: str) -> _User | None:
            known = provider.users.get(username)
            return _User(username) if known and hmac.compare_digest(known, password) else None

    class MachineGrant(grants.ClientCredentialsGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic"]  # noqa: RUF012 - Authlib's class attribute

    def query_client(client_id: str) -> _Client | None:
        if client_id == CLI:
            return _Client(CLI, None)
        secret = provider.clients.get(client_id)
        return None if secret is None else _Client(client_id, secret)

    server = AuthorizationServer(app, query_client=query_client, save_token=lambda _token, _request: None)

    def generate(
        grant_type: str, client: _Client, user: _User | None = None, scope: str | None = None, **_kwargs: Any
    ) -> dict[str, Any]:
        from flask import request

        form = {key: value for key, value in request.form.items() if isinstance(value, str)}
        name = user.name if user is not None else client.client_id
        token: dict[str, Any] = {
            "token_type": "Bearer",
            "access_token": provider.access_token(name, client.client_id, form, person=user is not None),
            "expires_in": LIFETIME,
        }
        if user is not None and "openid" in (scope or "").split():
            token["id_token"] = provider.id_token(name, client.client_id)
        return token

    server.register_token_generator("default", generate)
    server.register_grant(PasswordGrant)
    server.register_grant(MachineGrant)

    @app.get("/.well-known/openid-configuration")
    def discovery() -> Response:
        return jsonify(provider.discovery())

    @app.get("/jwks")
    def jwks() -> Response:
        return jsonify({"keys": [provider.key.as_dict(private=False)]})

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    @app.get("/healthz")
    def health() -> Response:
        return jsonify({"status": "alive"})

    return app


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    # Authlib wants HTTPS; this provider listens on loopback only.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    provider = Provider(f"http://127.0.0.1:{options.port}", options.data)
    server = make_server("127.0.0.1", options.port, create_app(provider), threaded=True)
    import signal

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
