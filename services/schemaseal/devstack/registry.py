"""The registry asked directly, around the gateway: what it really holds. Only demo, tests and benchmarks do so.

Uses the applier's own credential, read from the local deployment's files as its operator.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx

from schemaseal.devstack.deployment import TARGET, Deployment

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class DirectRegistry:
    """The target's own answers, with the applier's write credential."""

    def __init__(self, deployment: Deployment) -> None:
        self._url = deployment.registry_url
        path = deployment.secrets("applier") / f"target-{TARGET}.json"
        credential: dict[str, str] = json.loads(path.read_text("utf-8"))["write"]
        answer = httpx.post(
            credential["token_url"],
            data={"grant_type": "client_credentials", "audience": credential["audience"]},
            auth=(credential["client_id"], credential["client_secret"]),
            timeout=30,
        )
        answer.raise_for_status()
        self._http = httpx.Client(timeout=30, headers={"Authorization": f"Bearer {answer.json()['access_token']}"})

    def close(self) -> None:
        self._http.close()

    def versions(self, subject: str) -> list[int]:
        answer = self._http.get(f"{self._url}/subjects/{quote(subject, safe='')}/versions")
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        return list(answer.json())

    def schema_text(self, subject: str, version: str) -> str:
        answer = self._http.get(f"{self._url}/subjects/{quote(subject, safe='')}/versions/{version}")
        answer.raise_for_status()
        return str(answer.json()["schema"])

    def register(self, subject: str, schema: str) -> dict[str, Any]:
        answer = self._http.post(
            f"{self._url}/subjects/{quote(subject, safe='')}/versions",
            content=json.dumps({"schema": schema, "schemaType": "JSON"}),
            headers={"Content-Type": CONTENT_TYPE},
        )
        answer.raise_for_status()
        registered: dict[str, Any] = answer.json()
        return registered

    def status_with(self, token: str) -> int:
        """The status of a write to the registry with somebody else's token."""
        return httpx.post(
            f"{self._url}/subjects/around-the-gateway/versions",
            content=json.dumps({"schema": '{"type": "string"}', "schemaType": "JSON"}),
            headers={"Authorization": f"Bearer {token}", "Content-Type": CONTENT_TYPE},
            timeout=30,
        ).status_code
