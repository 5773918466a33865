"""Crash points: a process dies where a test says, the n-th time, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from schemaseal.core.crash import crash_point
for name in sys.argv[1:]:
    crash_point(name)
    print(name, flush=True)
"""


def run(*names: str, at: str | None = None, once: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Passes the crash points in order; prints each one it outlived."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMASEAL_CRASH")}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if at is not None:
        env["SCHEMASEAL_CRASH_AT"] = at
    if once is not None:
        env["SCHEMASEAL_CRASH_ONCE"] = str(once)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("at", [None, "", "other", "sign", "signed-too", "other:1"])
def test_it_goes_on_unless_it_is_named(at: str | None) -> None:
    ended = run("signed", "committed", "signed", "", at=at)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["signed", "committed", "signed"]


@pytest.mark.parametrize(
    ("at", "outlived"),
    [("a", []), ("a:1", []), ("b", ["a"]), ("a:2", ["a", "b"]), ("a:3", ["a", "b", "a"])],
)
def test_it_dies_at_the_named_place_the_nth_time(at: str, outlived: list[str]) -> None:
    ended = run("a", "b", "a", "a", at=at)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == outlived


def test_it_dies_only_once_if_told_so(tmp_path: Path) -> None:
    once = tmp_path / "crashed"
    first = run("a", "b", at="b", once=once)
    assert first.returncode == -signal.SIGKILL
    assert once.read_text("utf-8") == "b"
    second = run("a", "b", at="b", once=once)
    assert second.returncode == 0
    assert second.stdout.split() == ["a", "b"]


def test_places_it_outlives_leave_no_mark(tmp_path: Path) -> None:
    once = tmp_path / "crashed"
    assert run("a", "b", at="b:2", once=once).returncode == 0
    assert not once.exists()
