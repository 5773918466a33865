"""Settings: what loads, what overrides what, and that every fault is named in one sentence at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemaseal.core.errors import SettingsError
from schemaseal.core.settings import MIB, Settings, load_settings, read_secret


def document(**over: Any) -> dict[str, Any]:
    listen = {"port": 1}
    base: dict[str, Any] = {
        "origin": "log.example/evidence",
        "kafka": {"bootstrap": "kafka:9092"},
        "targets": [{"name": "registry", "url": "http://registry"}],
        "issuers": [{"url": "https://issuer.example", "audience": "schemaseal"}],
        "policy_file": "policy.yaml",
        "public_keys": "keys.json",
        "ingress": listen,
        "applier": listen,
        "decisions": listen,
        "streams": listen,
        "evidence": listen,
        "clickhouse": {"records_url": "http://a", "sealed_url": "http://b"},
        "secrets": "secrets",
        "state": "state",
    }
    return {name: value for name, value in (base | over).items() if value is not None}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "SECRETS", "STATE", "ORIGIN", "TARGETS", "KAFKA__BOOTSTRAP"):
        monkeypatch.delenv(f"SCHEMASEAL_{name}", raising=False)


def load(directory: Path, content: object) -> Settings:
    path = directory / "schemaseal.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
    return load_settings(path)


def test_the_least_that_loads(tmp_path: Path) -> None:
    settings = load(tmp_path, document())
    assert settings.kafka.bootstrap == "kafka:9092"
    assert (settings.kafka.replication, settings.kafka.min_insync) == (3, 2)
    assert settings.targets[0].mode == "enforce"
    assert "none" not in {name.lower() for name in settings.issuers[0].algorithms}
    assert not any(name.startswith("HS") for name in settings.issuers[0].algorithms)
    assert settings.ingress.host == "127.0.0.1"
    assert settings.applier.url == "http://127.0.0.1:1"
    assert settings.message_limit == 3 * 4 * MIB + MIB


def test_targets_are_found_by_name(tmp_path: Path) -> None:
    settings = load(tmp_path, document())
    target = settings.target("registry")
    assert target is not None
    assert target.url == "http://registry"
    assert settings.target("other") is None


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEMASEAL_KAFKA__BOOTSTRAP", "elsewhere:9092")
    monkeypatch.setenv("SCHEMASEAL_SECRETS", "own/secrets")
    monkeypatch.setenv("SCHEMASEAL_TARGETS", '[{"name": "other", "url": "http://other"}]')
    settings = load(tmp_path, document())
    assert settings.kafka.bootstrap == "elsewhere:9092"
    assert settings.kafka.replication == 3
    assert settings.secrets == Path("own/secrets")
    assert [target.name for target in settings.targets] == ["other"]


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named.yaml").write_text(yaml.safe_dump(document(deployment="named")), "utf-8")
    monkeypatch.setenv("SCHEMASEAL_CONFIG", str(tmp_path / "named.yaml"))
    assert load_settings().deployment == "named"


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load(
            tmp_path,
            document(
                origin=None,
                targets=[],
                issuers=[{"url": "x", "audience": "y", "skew_seconds": 301}],
                ingress={"port": 70_000},
                kafka={"bootstrap": "b", "acks": 0},
                body_limit=0,
            ),
        )
    text = str(refused.value)
    for place in ("origin:", "targets:", "issuers.0.skew_seconds:", "ingress.port:", "kafka.acks:", "body_limit:"):
        assert f"\n  {place}" in text
    assert "state:" not in text


@pytest.mark.parametrize(
    ("over", "place"),
    [
        ({"targets": [{"name": "r", "url": "u", "mode": "off"}]}, r"targets\.0\.mode"),
        ({"targets": [{"name": "r", "url": "u", "profile": "other"}]}, r"targets\.0\.profile"),
        ({"issuers": []}, "issuers"),
        ({"issuers": [{"url": "u"}]}, r"issuers\.0\.audience"),
        ({"issuers": [{"url": "u", "audience": "a", "jwks": "x"}]}, r"issuers\.0\.jwks"),
        ({"kafka": {"bootstrap": "b", "replication": 0}}, r"kafka\.replication"),
        ({"applier": {"port": 1, "send_timeout_seconds": 0}}, r"applier\.send_timeout_seconds"),
        ({"clickhouse": {"records_url": "r"}}, r"clickhouse\.sealed_url"),
        ({"attach_minutes": -1}, "attach_minutes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_are_refused(tmp_path: Path, over: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError, match=rf"\n  {place}: "):
        load(tmp_path, document(**over))


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "text\n", "1: 2\n"], ids=repr)
def test_a_file_that_is_no_mapping(tmp_path: Path, content: str) -> None:
    with pytest.raises(SettingsError, match="is not a mapping"):
        load(tmp_path, content)


@pytest.mark.parametrize("content", ["a: [", "a: !!python/object:os.system {}\n", "a: \x00\n"], ids=repr)
def test_a_file_that_is_no_plain_yaml(tmp_path: Path, content: str) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path, content)


def test_a_file_that_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "schemaseal.yaml").write_bytes(b"origin: \xff\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "schemaseal.yaml")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no settings file") as refused:
        load_settings(tmp_path / "none.yaml")
    assert "SCHEMASEAL_CONFIG" in refused.value.hint


def test_a_variable_that_is_no_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEMASEAL_TARGETS", "[{")
    with pytest.raises(SettingsError, match=r'an environment variable is not JSON: .*"targets"'):
        load(tmp_path, document())


def test_settings_do_not_change_once_loaded(tmp_path: Path) -> None:
    settings = load(tmp_path, document())
    for section, name in ((settings, "origin"), (settings.kafka, "bootstrap"), (settings.issuers[0], "audience")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, "changed")


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_secret_is_read_as_it_is(tmp_path: Path, mode: int) -> None:
    (tmp_path / "log.key").write_bytes(b" \x00secret\n")
    (tmp_path / "log.key").chmod(mode)
    assert read_secret(tmp_path, "log.key") == b" \x00secret\n"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o610, 0o602])
def test_a_secret_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "log.key").write_bytes(b"hunter2")
    (tmp_path / "log.key").chmod(mode)
    with pytest.raises(SettingsError, match=r"secret log\.key is readable by others") as refused:
        read_secret(tmp_path, "log.key")
    assert "chmod 600" in refused.value.hint
    assert "hunter2" not in str(refused.value)


def test_a_missing_secret_says_which(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"secret log\.key cannot be read: No such file") as refused:
        read_secret(tmp_path, "log.key")
    assert "create" in refused.value.hint
