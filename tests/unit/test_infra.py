"""The production shape holds together: compose file, settings, identity realm, ClickHouse roles."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemaseal.cli.main import app
from schemaseal.core.settings import Settings, load_settings
from schemaseal.devstack import apicurio
from schemaseal.devstack.deployment import REGISTRY_AUDIENCE
from schemaseal.evidence.store import migration_files, statements

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SETTINGS = ROOT / "infra" / "docker" / "schemaseal.yaml"
ROLES = ROOT / "infra" / "clickhouse" / "roles.sql"
REALM = ROOT / "infra" / "keycloak" / "schemaseal-realm.json"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return loaded


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, compose: dict[str, Any]) -> Settings:
    """As a container reads them: only what compose puts into its environment."""
    for name, value in compose["x-environment"].items():
        monkeypatch.setenv(name, value)
    return load_settings(SETTINGS)


def test_a_compose_loader_takes_it(monkeypatch: pytest.MonkeyPatch, compose: dict[str, Any]) -> None:
    """With variables replaced, dependencies resolved and the settings in place, as before a start."""
    from podman_compose import podman_compose as loader

    monkeypatch.setenv("KEYCLOAK_ADMIN_PASSWORD", "from-env")
    monkeypatch.setenv("SCHEMASEAL_CLICKHOUSE_ADMIN_SHA256", "0" * 64)
    monkeypatch.setenv("SCHEMASEAL_MASK_KEY_ID", "M1")
    arguments = ["-f", str(COMPOSE), "config"]
    monkeypatch.setattr("sys.argv", ["podman-compose", *arguments])
    loader.global_args = loader._parse_args(arguments)
    loader._parse_compose_file()
    assert set(loader.services) == set(compose["services"])
    assert len(loader.containers) == len(compose["services"])
    keycloak = loader.services["keycloak"]["environment"]
    assert keycloak["KC_BOOTSTRAP_ADMIN_PASSWORD"] == "from-env"
    expected = compose["x-environment"] | {"SCHEMASEAL_MASK_KEY_ID": "M1"}
    assert loader.services["streams"]["environment"] == expected


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: s for name, s in compose["services"].items() if s.get("image", "").startswith("schemaseal:")}


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Place in the container → what is mounted there."""
    found = {}
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        assert mode in ([], ["ro"])
        found[target] = source
    return found


def test_every_service_can_be_started(compose: dict[str, Any]) -> None:
    assert set(ours(compose)) == {"topics", "genesis", "ingress", "streams", "applier", "decisions", "evidence"}
    for name, service in compose["services"].items():
        assert service.get("image") or service.get("build"), name
        if "build" in service:
            context = ROOT / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file(), name
        for other in service.get("depends_on", {}):
            assert other in compose["services"], f"{name} waits for {other}"


def test_who_is_waited_for_as_healthy_says_when_it_is(compose: dict[str, Any]) -> None:
    waits = 0
    for service in compose["services"].values():
        if isinstance(service.get("depends_on"), dict):
            for other, how in service["depends_on"].items():
                waits += 1
                if how["condition"] == "service_healthy":
                    assert "healthcheck" in compose["services"][other]
    assert waits >= 6


def test_anchors_resolve_to_the_hardened_shape(compose: dict[str, Any]) -> None:
    for name in set(ours(compose)) - {"topics", "genesis"}:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["environment"] == compose["x-environment"]


def test_every_mount_is_a_declared_volume_a_file_of_the_repository_or_a_documented_secret(
    compose: dict[str, Any],
) -> None:
    head = COMPOSE.read_text("utf-8").partition("\nname:")[0]
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert "/secrets/" in ignored
    used = set()
    for service in compose["services"].values():
        for source in mounts(service).values():
            if not source.startswith("./"):
                assert source in compose["volumes"]
                used.add(source)
            elif source.startswith("./secrets/"):
                assert f"#   {source[2:]} " in head, f"{source} is not explained"
            else:
                assert (ROOT / source).exists(), f"{source} is not in the repository"
    assert used == set(compose["volumes"])


def test_what_the_file_takes_from_the_environment_is_documented(compose: dict[str, Any]) -> None:
    text = COMPOSE.read_text("utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {"KEYCLOAK_ADMIN_PASSWORD", "SCHEMASEAL_CLICKHOUSE_ADMIN_SHA256", "SCHEMASEAL_MASK_KEY_ID"}
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for name in required:
        assert name in comments
    from_env = re.findall(r'from_env="(\w+)"', (ROOT / "infra" / "clickhouse" / "users.xml").read_text("utf-8"))
    for name in from_env:
        for server in ("clickhouse", "clickhouse-sealed"):
            assert name in compose["services"][server]["environment"]


def test_every_command_is_a_module_or_a_subcommand_that_exists(compose: dict[str, Any]) -> None:
    known = {command.name for command in app.registered_commands}
    for name, service in ours(compose).items():
        command = service["command"]
        if command[0] == "schemaseal":
            assert command[1] in known, name
        else:
            assert command[:2] == ["python", "-m"]
            assert importlib.util.find_spec(f"{command[2]}.__main__") is not None, name


def test_settings_are_where_the_services_look(compose: dict[str, Any], settings: Settings) -> None:
    environment = compose["x-environment"]
    for name, service in ours(compose).items():
        places = mounts(service)
        assert places[environment["SCHEMASEAL_CONFIG"]] == "./infra/docker/schemaseal.yaml"
        secrets_of = {"topics": "operator", "genesis": "operator"}.get(name, name)
        assert places[str(settings.secrets)] == f"./secrets/{secrets_of}"
        assert str(settings.secrets) == environment["SCHEMASEAL_SECRETS"]
        assert str(settings.policy_file.parent) in places
        assert str(settings.public_keys.parent) in places
        if name not in ("topics", "genesis"):
            assert places[str(settings.state)] == name


def test_settings_name_services_of_the_file(compose: dict[str, Any], settings: Settings) -> None:
    names = set(compose["services"])
    addresses = [
        settings.targets[0].url,
        settings.issuers[0].url,
        settings.clickhouse.records_url,
        settings.clickhouse.sealed_url,
        settings.applier.reached_at,
        f"//{settings.kafka.bootstrap}",
    ]
    for address in addresses:
        assert re.split(r"[:/]", address.partition("//")[2])[0] in names
    assert settings.clickhouse.records_url != settings.clickhouse.sealed_url
    for name in ("ingress", "decisions"):
        port = getattr(settings, name).port
        assert compose["services"][name]["ports"] == [f"{port}:{port}"]
    assert int(compose["services"]["kafka"]["environment"]["KAFKA_MESSAGE_MAX_BYTES"]) >= settings.message_limit


def test_the_registry_lets_nobody_in_but_the_applier(compose: dict[str, Any], tmp_path: Path) -> None:
    """The same locks as on the local stack, where the demo shows that alice's own token is worth nothing."""
    arguments = apicurio.command(
        tmp_path, tmp_path / "data", port=1, management_port=2, issuer="http://issuer", audience=REGISTRY_AUDIENCE
    )
    local = dict(argument[2:].split("=", 1) for argument in arguments if argument.startswith("-D"))
    environment = compose["services"]["registry"]["environment"]
    for name in (
        "quarkus.oidc.tenant-enabled",
        "quarkus.oidc.application-type",
        "quarkus.oidc.token.audience",
        "quarkus.oidc.roles.role-claim-path",
        "apicurio.auth.role-based-authorization",
        "apicurio.rest.deletion.artifact.enabled",
        "apicurio.storage.kind",
    ):
        assert environment[re.sub(r"[.-]", "_", name).upper()] == local[name], name
    assert compose["services"]["registry"]["volumes"]


def test_the_realm_has_the_people_groups_and_clients_of_the_settings(settings: Settings) -> None:
    realm = json.loads(REALM.read_text("utf-8"))
    issuer = settings.issuers[0]
    assert issuer.url.endswith(f"/realms/{realm['realm']}")
    people = {user["username"]: user["groups"] for user in realm["users"] if "groups" in user}
    assert people == {
        "alice": ["/engineers"],
        "bob": ["/schema-owners"],
        "carol": ["/schema-owners"],
        "ana": ["/auditors"],
    }
    assert {group["name"] for group in realm["groups"]} == {"engineers", "schema-owners", "auditors"}
    clients = {client["clientId"]: client for client in realm["clients"]}
    assert set(clients) == {"schemaseal", "ci", "registry", "schemaseal-applier", "schemaseal-reader"}
    machines = {user["serviceAccountClientId"]: user["realmRoles"] for user in realm["users"] if "groups" not in user}
    assert machines == {"schemaseal-applier": ["sr-admin"], "schemaseal-reader": ["sr-readonly"]}
    for name in machines:
        mappers = {mapper["protocolMapper"]: mapper["config"] for mapper in clients[name]["protocolMappers"]}
        assert mappers["oidc-audience-mapper"]["included.client.audience"] == REGISTRY_AUDIENCE
        assert mappers["oidc-usermodel-realm-role-mapper"]["claim.name"] == "roles"
    assert set(issuer.machine_clients) <= set(clients)
    for name in (issuer.audience, *issuer.machine_clients):
        mappers = {mapper["protocolMapper"]: mapper["config"] for mapper in clients[name]["protocolMappers"]}
        assert mappers["oidc-group-membership-mapper"]["claim.name"] == issuer.groups_claim
        assert mappers["oidc-group-membership-mapper"]["full.path"] == "false"
        assert mappers["oidc-audience-mapper"]["included.client.audience"] == issuer.audience
    text = REALM.read_text("utf-8")
    assert '"secret"' not in text
    assert '"credentials"' not in text


# ClickHouse.


def grants() -> list[tuple[str, str, str]]:
    """(privileges, object, role) of every GRANT on an object in roles.sql."""
    return re.findall(r"^GRANT ([A-Z, ]+) ON (\S+) TO (\w+);$", ROLES.read_text("utf-8"), re.MULTILINE)


def created(kind: str) -> set[str]:
    texts = [text for folder in ("records", "sealed") for _, text in migration_files(folder)]
    return {
        name for text in texts for name in re.findall(rf"^CREATE [A-Z ]*\b{kind}\b[A-Z ]* (evidence\.\w+)", text, re.M)
    }


def test_every_statement_of_the_roles_parses_with_the_engine(tmp_path: Path) -> None:
    import chdb

    connection = chdb.connect(str(tmp_path))  # type: ignore[no-untyped-call]
    try:
        found = statements(ROLES.read_text("utf-8"))
        assert len(found) == len(re.findall(r";$", ROLES.read_text("utf-8"), re.MULTILINE))
        for statement in found:
            connection.query(f"EXPLAIN AST {statement}")
        with pytest.raises(RuntimeError, match="Syntax error"):
            connection.query("EXPLAIN AST GRANT SELEKT ON evidence.changes TO evidence_auditor")
    finally:
        connection.close()


def test_auditors_are_granted_views_and_never_a_table() -> None:
    views, tables = created("VIEW"), created("TABLE")
    assert len(views) >= 9
    assert tables == {f"evidence.{t}" for t in ("records", "bodies", "actors", "checkpoints", "sealed_parts")}
    of_auditor = [(what, on) for what, on, role in grants() if role == "evidence_auditor"]
    assert {what for what, _ in of_auditor} == {"SELECT"}
    granted = {on for _, on in of_auditor}
    assert granted == {view for view in views if not view.startswith("evidence._")}
    assert granted.isdisjoint(tables)


def test_nobody_may_update_and_only_the_eraser_deletes() -> None:
    by_role: dict[str, set[tuple[str, str]]] = {}
    for what, on, role in grants():
        by_role.setdefault(role, set()).add((what, on))
    assert by_role["evidence_writer"] == {("INSERT, SELECT", table) for table in created("TABLE")}
    assert by_role["evidence_eraser"] == {("ALTER DELETE", "evidence.actors")}
    assert set(by_role) == {"evidence_writer", "evidence_eraser", "evidence_auditor"}
    assert "UPDATE" not in ROLES.read_text("utf-8").upper().replace("NOBODY UPDATES", "")
