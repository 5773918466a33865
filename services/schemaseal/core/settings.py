"""Settings: one YAML file (`SCHEMASEAL_CONFIG`) and the environment (`SCHEMASEAL_…`, nested by `__`).

The file holds nothing secret. Every secret is a file in the process' own secrets directory
(`SCHEMASEAL_SECRETS`), so that a process has only what it needs. All faults are reported at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableVariable

from schemaseal.core.errors import SettingsError

MIB = 1024 * 1024


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    bootstrap: str
    partitions: int = Field(default=8, ge=1)
    replication: int = Field(default=3, ge=1)
    min_insync: int = Field(default=2, ge=1)


class TargetSettings(_Section):
    """One registry. `mount` is the path under ingress, `url` is used by the applier alone."""

    name: str
    profile: Literal["confluent"] = "confluent"
    url: str
    mount: str = ""
    mode: Literal["observe", "enforce"] = "enforce"


class IssuerSettings(_Section):
    """One OIDC issuer whose tokens count. Claims are named here because providers differ."""

    url: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    groups_claim: str = "groups"
    name_claim: str = "preferred_username"
    initiator_claim: str | None = None
    machine_clients: tuple[str, ...] = ()
    skew_seconds: int = Field(default=30, ge=0, le=300)


class ListenSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class IngressSettings(ListenSettings):
    hold_default_seconds: float = Field(default=30, ge=0)
    hold_max_seconds: float = Field(default=300, ge=0)


class ApplierSettings(ListenSettings):
    """`address` is where others reach it, when that is not where it listens."""

    address: str = ""
    send_timeout_seconds: float = Field(default=30, gt=0)
    session_timeout_ms: int = 6000

    @property
    def reached_at(self) -> str:
        return self.address or self.url


class ClickHouseSettings(_Section):
    """`records_url` serves records, bodies, actors, checkpoints; `sealed_url` the sealed parts."""

    records_url: str
    sealed_url: str
    user: str = "writer"


class Settings(BaseSettings):
    """Everything a process needs to know that is not secret."""

    model_config = SettingsConfigDict(env_prefix="SCHEMASEAL_", env_nested_delimiter="__", extra="ignore", frozen=True)

    deployment: str = "local"
    origin: str = Field(description="name of the log, as it stands in checkpoints")
    kafka: KafkaSettings
    targets: tuple[TargetSettings, ...] = Field(min_length=1)
    issuers: tuple[IssuerSettings, ...] = Field(min_length=1)
    policy_file: Path
    public_keys: Path = Field(description="public keys of all recipients and signers, JSON")
    ingress: IngressSettings
    applier: ApplierSettings
    decisions: ListenSettings
    streams: ListenSettings
    evidence: ListenSettings
    clickhouse: ClickHouseSettings
    secrets: Path = Field(description="directory of this process' own secrets")
    state: Path = Field(description="directory this process may write to")
    page_url: str = ""
    mask_key_id: str = Field(default="", description="public name of the masking key in force")
    body_limit: int = Field(default=4 * MIB, gt=0)
    attach_minutes: int = Field(default=10, ge=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)

    @property
    def message_limit(self) -> int:
        """Bytes a topic must take: request and base at the body limit, sealed (base64), some head."""
        return 3 * self.body_limit + MIB

    def target(self, name: str) -> TargetSettings | None:
        return next((target for target in self.targets if target.name == name), None)


def load_settings(path: Path | None = None) -> Settings:
    """Settings from the file and the environment. Raises `SettingsError` that lists every fault."""
    source = path or Path(os.environ.get("SCHEMASEAL_CONFIG", "schemaseal.yaml"))
    try:
        loaded: Any = yaml.safe_load(source.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"no settings file at {source}", hint="set SCHEMASEAL_CONFIG to the YAML file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {source} cannot be read: {error}") from error
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise SettingsError(f"settings file {source} is not a mapping of names")
    try:
        return Settings(**loaded)
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join(str(step) for step in fault['loc'])}: {fault['msg']}" for fault in error.errors()
        )
        raise SettingsError(f"settings in {source} are wrong:\n{faults}") from error
    except UnreadableVariable as error:
        raise SettingsError(f"an environment variable is not JSON: {error}") from error


def read_secret(directory: Path, name: str) -> bytes:
    """A secret file of this process, mode 0600 or stricter. Raises `SettingsError`."""
    path = directory / name
    try:
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"secret {name} cannot be read: {error.strerror}", hint=f"create {path}") from error
    if mode & 0o077:
        raise SettingsError(f"secret {name} is readable by others (mode {mode:o})", hint=f"chmod 600 {path}")
    return data
