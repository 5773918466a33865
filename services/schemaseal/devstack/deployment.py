"""A local deployment on disk: keys, secrets, settings and ports under one data directory.

    DATA/deployment.json   ports and format version      DATA/public/    keys.json, log.vkey, policy.yaml
    DATA/schemaseal.yaml   settings of every service     DATA/secrets/S/ what service S alone may read
    DATA/state/S/          what service S may write      DATA/logs/      one file per process

Made once; a second start with the same directory finds everything as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from schemaseal.core.errors import SettingsError
from schemaseal.core.ids import mask_key_id
from schemaseal.core.settings import Settings
from schemaseal.sealing.keys import RECIPIENTS, SIGNERS, generate_recipient, generate_seed
from schemaseal.sealing.signing import Signer
from schemaseal.tlog import note

FORMAT = 1
ORIGIN = "schemaseal.example/local"
TARGET = "registry"
REGISTRY_AUDIENCE = "registry"
SERVICES = ("ingress", "streams", "applier", "decisions", "evidence", "custody", "operator")


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of every part."""

    ingress: int = 8085
    decisions: int = 8086
    oidc: int = 8087
    clickhouse: int = 8123
    sealed: int = 8124
    kafka: int = 9092
    kafka_controller: int = 9093
    apicurio: int = 8088
    apicurio_management: int = 8089
    applier: int = 8090
    streams: int = 8091
    evidence: int = 8092


def free_ports(keep: Ports | None = None) -> Ports:
    """Ports that are free now, all different; those of `keep` as far as nobody holds them."""
    wanted = dict.fromkeys(asdict(Ports()), 0) if keep is None else asdict(keep)
    sockets: list[socket.socket] = []
    try:
        for name, number in sorted(wanted.items(), key=lambda entry: entry[1] == 0):
            listener = socket.socket()
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", number))
            except OSError:
                listener.bind(("127.0.0.1", 0))
            wanted[name] = listener.getsockname()[1]
    finally:
        for listener in sockets:
            listener.close()
    return Ports(**wanted)


def known_ports(data: Path) -> Ports | None:
    """The ports of the deployment in `data`, if there is one of this format."""
    try:
        known = json.loads((data / "deployment.json").read_text("utf-8"))
    except OSError:
        return None
    return Ports(**known["ports"]) if known.get("format") == FORMAT else None


@contextlib.contextmanager
def held(data: Path) -> Iterator[None]:
    """The directory for one running stack alone; the kernel lets go when the process ends, however it ends.

    Raises `SettingsError` when another stack runs in it.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(data, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                f"a local stack runs in {data} already", hint="use that one, end it, or choose another --data directory"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _unusable(data: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the data directory {data} cannot be used: {error.strerror}",
        hint="free some disk space or choose another --data directory",
    )


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Whole or not at all: written beside, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Paths and ports of one local deployment."""

    data: Path
    ports: Ports

    def secrets(self, service: str) -> Path:
        return self.data / "secrets" / service

    def state(self, service: str) -> Path:
        return self.data / "state" / service

    def settings(self, service: str = "operator") -> Settings:
        """The settings as that service reads them."""
        loaded: dict[str, Any] = yaml.safe_load(self.config.read_text("utf-8"))
        return Settings(**loaded, secrets=self.secrets(service), state=self.state(service))

    def temp(self, service: str) -> Path:
        """The service's temporary files: of its own, so that a search for leaks knows where to look."""
        path = self.data / "tmp" / service
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @property
    def config(self) -> Path:
        return self.data / "schemaseal.yaml"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def vkey(self) -> str:
        """The log's verifier key: what an auditor pins."""
        return (self.data / "public" / "log.vkey").read_text("utf-8").strip()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.ports.oidc}"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports.kafka}"

    @property
    def registry_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.apicurio}/apis/ccompat/v7"

    @property
    def ingress_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.ingress}"

    @property
    def decisions_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.decisions}"

    def environment(self, service: str, **extra: str) -> dict[str, str]:
        """All that a service's process gets from its environment."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.temp(service)),
            "PYTHONUNBUFFERED": "1",
            "SCHEMASEAL_CONFIG": str(self.config),
            "SCHEMASEAL_SECRETS": str(self.secrets(service)),
            "SCHEMASEAL_STATE": str(self.state(service)),
        } | extra

    def clickhouse_password(self, user: str) -> str:
        """A local ClickHouse user's password, from the operator's file."""
        passwords: dict[str, str] = json.loads((self.secrets("operator") / "clickhouse-users.json").read_text("utf-8"))
        return passwords[user]


def open_deployment(data: Path, ports: Ports | None = None) -> Deployment:
    """The deployment in `data`, made if there is none. `ports` counts only when it is made, or when given.

    Raises `SettingsError` when the directory is of another format or cannot be written.
    """
    try:
        data = data.resolve()
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        marker = data / "deployment.json"
        if marker.exists():
            known = json.loads(marker.read_text("utf-8"))
            if known.get("format") != FORMAT:
                raise SettingsError(f"{data} was made by another version", hint="choose another --data directory")
            deployment = Deployment(data, ports or Ports(**known["ports"]))
            if asdict(deployment.ports) != known["ports"]:
                _write_marker(deployment)
            _write_settings(deployment)  # what a crash left behind the marker is made again here
            _write_target(deployment)
            return deployment
        left_over = [path for path in (data / "secrets", data / "public") if path.exists()]
        for path in left_over:  # an earlier first start was interrupted: nothing was started with these keys
            shutil.rmtree(path)
        deployment = Deployment(data, ports or Ports())
        _create(deployment)
        _write_settings(deployment)
        _write_marker(deployment)
    except OSError as error:
        raise _unusable(data, error) from error
    return deployment


def _write_marker(deployment: Deployment) -> None:
    marker = {"format": FORMAT, "ports": asdict(deployment.ports)}
    _write(deployment.data / "deployment.json", json.dumps(marker, indent=1))


def _create(deployment: Deployment) -> None:
    for service in SERVICES:
        deployment.secrets(service).mkdir(parents=True, exist_ok=True, mode=0o700)
        deployment.state(service).mkdir(parents=True, exist_ok=True, mode=0o700)
    deployment.logs.mkdir(exist_ok=True, mode=0o700)
    recipients = {name: [generate_recipient(name, 1, deployment.secrets(name))] for name in RECIPIENTS}
    signers: dict[str, list[dict[str, str]]] = {}
    for name in SIGNERS:
        signer = Signer(name, generate_seed(deployment.secrets(name) / "signing.key"))
        signers[name] = [{"kid": signer.key_id, "public": signer.public.hex()}]
    _write(
        deployment.data / "public" / "keys.json",
        json.dumps({"recipients": recipients, "signers": signers}, indent=1),
        0o644,
    )
    log_seed = generate_seed(deployment.secrets("evidence") / "log.key")
    vkey = note.Signer.from_seed(ORIGIN, log_seed).vkey
    _write(deployment.data / "public" / "log.vkey", vkey + "\n", 0o644)
    channel = generate_seed(deployment.secrets("ingress") / "channel.key")
    _write_bytes(deployment.secrets("operator") / "channel.key", channel)
    generate_seed(deployment.secrets("streams") / "mask.key")
    token = secrets.token_urlsafe(32)
    for service in ("applier", "ingress", "operator"):
        _write(deployment.secrets(service) / "applier.token", token)
    _write_clickhouse(deployment)
    _write_clients(deployment)
    policy = (resources.files("schemaseal.risk") / "genesis.yaml").read_text("utf-8")
    _write(deployment.data / "public" / "policy.yaml", policy, 0o644)


def _write_bytes(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _write_clickhouse(deployment: Deployment) -> None:
    """Passwords to whoever uses them; the endpoint itself gets digests only."""
    users = {"admin": "admin", "writer": "writer", "ana": "auditor"}
    passwords = {user: secrets.token_urlsafe(18) for user in users}
    digests = {
        user: {"password_sha256": hashlib.sha256(passwords[user].encode()).hexdigest(), "role": role}
        for user, role in users.items()
    }
    _write(deployment.data / "clickhouse-users.json", json.dumps(digests, indent=1))
    _write(deployment.secrets("operator") / "clickhouse-users.json", json.dumps(passwords, indent=1))
    _write(deployment.secrets("evidence") / "clickhouse.password", passwords["writer"])
    _write(deployment.secrets("evidence") / "clickhouse-admin.password", passwords["admin"])


def _write_clients(deployment: Deployment) -> None:
    """Machine clients of the local provider."""
    clients = {name: secrets.token_urlsafe(24) for name in ("ci", "schemaseal-applier", "schemaseal-reader")}
    _write(deployment.data / "oidc" / "clients.json", json.dumps(clients, indent=1))
    _write(deployment.secrets("operator") / "clients.json", json.dumps({"ci": clients["ci"]}))
    _write_target(deployment)


def _write_target(deployment: Deployment) -> None:
    """The applier's two credentials for the registry; they hold the provider's address."""
    clients: dict[str, str] = json.loads((deployment.data / "oidc" / "clients.json").read_text("utf-8"))

    def credential(client: str) -> dict[str, str]:
        return {
            "kind": "oauth2_client_credentials",
            "token_url": f"{deployment.issuer}/token",
            "client_id": client,
            "client_secret": clients[client],
            "audience": REGISTRY_AUDIENCE,
        }

    _write(
        deployment.secrets("applier") / f"target-{TARGET}.json",
        json.dumps({"write": credential("schemaseal-applier"), "read": credential("schemaseal-reader")}),
    )


def _write_settings(deployment: Deployment) -> None:
    ports, data = deployment.ports, deployment.data
    mask_kid = mask_key_id((deployment.secrets("streams") / "mask.key").read_bytes())
    settings: dict[str, Any] = {
        "deployment": "local",
        "origin": ORIGIN,
        "kafka": {"bootstrap": deployment.bootstrap, "partitions": 4, "replication": 1, "min_insync": 1},
        "targets": [{"name": TARGET, "profile": "confluent", "url": deployment.registry_url}],
        "issuers": [
            {
                "url": deployment.issuer,
                "audience": "schemaseal",
                "initiator_claim": "initiator",
                "machine_clients": ["ci"],
            }
        ],
        "policy_file": str(data / "public" / "policy.yaml"),
        "public_keys": str(data / "public" / "keys.json"),
        "mask_key_id": mask_kid,
        "ingress": {"port": ports.ingress, "hold_default_seconds": 5},
        "applier": {"port": ports.applier, "send_timeout_seconds": 10},
        "decisions": {"port": ports.decisions},
        "streams": {"port": ports.streams},
        "evidence": {"port": ports.evidence},
        "clickhouse": {
            "records_url": f"http://127.0.0.1:{ports.clickhouse}",
            "sealed_url": f"http://127.0.0.1:{ports.sealed}",
        },
    }
    _write(deployment.config, yaml.safe_dump(settings, sort_keys=False), 0o644)
