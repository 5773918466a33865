"""How a service's process ends: asked, with a sentence, or as a bug."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from schemaseal.core import service
from schemaseal.core.errors import EvidenceMismatch, SettingsError
from schemaseal.core.settings import Settings


def raising(error: Exception) -> Callable[[Settings], Coroutine[None, None, None]]:
    async def run(_settings: Settings) -> None:
        raise error

    return run


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "load_settings", lambda: None)


@pytest.mark.parametrize("fast_loop", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (EvidenceMismatch("they disagree", hint="look"), 1, ["they disagree (look)"]),
        (ExceptionGroup("", [SettingsError("one"), ExceptionGroup("", [SettingsError("two")])]), 1, ["one", "two"]),
        (ExceptionGroup("", [SettingsError("one"), ValueError("a bug")]), service.CRASHED, ["stopped"]),
        (ValueError("a bug"), service.CRASHED, ["stopped"]),
    ],
)
def test_what_ends_a_service_is_told_once(
    error: Exception, code: int, told: list[str], fast_loop: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert service.run_service("here", raising(error), fast_loop=fast_loop) == code
    lines = [json.loads(line) for line in "".join(capfd.readouterr()).splitlines()]
    assert [line["text"] for line in lines if line["level"] in ("error", "critical")] == told


def test_a_service_that_was_asked_to_end_ends_well() -> None:
    async def run(_settings: Settings) -> None:
        return

    assert service.run_service("here", run) == 0


def test_settings_that_do_not_load_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def load() -> Settings:
        raise SettingsError(f"no settings file at {tmp_path}")

    monkeypatch.setattr(service, "load_settings", load)
    assert service.run_service("here", raising(ValueError())) == 1
    assert "no settings file at" in "".join(capfd.readouterr())
