"""Apicurio Registry on loopback: the real target, with its database on disk and its doors locked.

It is an OIDC resource server of the local provider: a request needs a token with audience `registry` and a
role (`sr-admin` may write, `sr-readonly` may read). Only the applier has such credentials, so a user's own
token is worth nothing here. Deleting is off by default and switched on.
"""

from __future__ import annotations

from pathlib import Path

from schemaseal.devstack.parts import java


def command(home: Path, data: Path, *, port: int, management_port: int, issuer: str, audience: str) -> list[str]:
    """The command that runs the registry. It needs the provider's discovery document at start."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    properties = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": str(port),
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": str(management_port),
        "java.util.logging.manager": "org.jboss.logmanager.LogManager",
        "quarkus.oidc.tenant-enabled": "true",
        "quarkus.oidc.auth-server-url": issuer,
        "quarkus.oidc.application-type": "service",
        "quarkus.oidc.token.audience": audience,
        "quarkus.oidc.roles.role-claim-path": "roles",
        "apicurio.auth.role-based-authorization": "true",
        "apicurio.rest.deletion.artifact.enabled": "true",
        "apicurio.rest.deletion.artifact-version.enabled": "true",
        "apicurio.storage.kind": "sql",
        "apicurio.storage.sql.kind": "h2",
        "apicurio.datasource.url": f"jdbc:h2:file:{data}/registry;DB_CLOSE_ON_EXIT=FALSE",
        "apicurio.datasource.username": "sa",
        "apicurio.datasource.password": "sa",
    }
    options = [f"-D{key}={value}" for key, value in properties.items()]
    return [
        str(java()), "-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1",
        *options, "-jar", str(home / "quarkus-run.jar"),
    ]  # fmt: skip
