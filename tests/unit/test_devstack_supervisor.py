"""The supervisor with small real children: order, readiness, deaths, and that nobody is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from schemaseal.devstack.story import until
from schemaseal.devstack.supervisor import (
    FULL_BYTES,
    NEEDED_BYTES,
    Child,
    StackError,
    Supervisor,
    last_lines,
    port_in_use,
)

SLEEPER = "import time; time.sleep(600)"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def gone(pid: int) -> bool:
    """Whether no process of that id runs (a zombie that its reaper has yet to collect does not run)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def await_gone(*pids: int) -> None:
    for pid in pids:
        until(f"the end of {pid}", lambda pid=pid: gone(pid) or None, 10, 0.02)  # type: ignore[misc]


async def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Without holding up the event loop in which the children are watched."""
    await asyncio.to_thread(until, what, lambda: condition() or None, 10, 0.01)


@dataclass
class Bench:
    """Makes children whose scripts write files into one directory, and supervisors that are always stopped."""

    home: Path
    made: list[Supervisor] = field(default_factory=list)

    def path(self, name: str) -> Path:
        return self.home / name

    def child(
        self,
        name: str,
        script: str = SLEEPER,
        *,
        ready: Callable[[], Awaitable[bool]] | None = None,
        after: tuple[str, ...] = (),
        prepare: Callable[[], Awaitable[None]] | None = None,
        env: dict[str, str] | None = None,
        ports: tuple[int, ...] = (),
        deadline: float = 20.0,
    ) -> Child:
        async def always() -> bool:
            return True

        return Child(
            name=name,
            argv=[sys.executable, "-S", "-c", textwrap.dedent(script)],
            env={} if env is None else env,
            log=self.home / "logs" / f"{name}.log",
            ready=ready or always,
            after=after,
            ports=ports,
            prepare=prepare,
            deadline_seconds=deadline,
        )

    def written(self, name: str) -> Callable[[], Awaitable[bool]]:
        """Ready when the child has written that file."""

        async def probe() -> bool:
            return self.path(name).exists()

        return probe

    def writing(self, name: str, before: str = "", after: str = "time.sleep(600)") -> str:
        """A script that writes `name` whole, then goes on with `after`."""
        path = self.path(name)
        return (
            f"import json, os, signal, subprocess, sys, time\n{textwrap.dedent(before)}\n"
            f"open({str(path) + '.new'!r}, 'w').write(str(locals().get('say', os.getpid())))\n"
            f"os.rename({str(path) + '.new'!r}, {str(path)!r})\n{textwrap.dedent(after)}\n"
        )

    def supervisor(self, *children: Child, grace: float = 8.0, seen: list[str] | None = None) -> Supervisor:
        def progress(name: str, _seconds: float) -> None:
            if seen is not None:
                seen.append(name)

        made = Supervisor(children, progress, grace_seconds=grace)
        self.made.append(made)
        return made


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for supervisor in made.made:
        pids = list(supervisor.pids().values())
        await supervisor.stop()
        for pid in pids:
            assert gone(pid)


async def test_a_child_starts_when_those_it_comes_after_are_ready(bench: Bench) -> None:
    seen: list[str] = []
    release = bench.path("release")

    async def released() -> bool:
        return release.exists()

    first = bench.child("first", bench.writing("first-runs"), ready=released)
    alone = bench.child("alone")
    second = bench.child("second", after=("first",))
    third = bench.child("third", after=("second", "alone"))
    supervisor = bench.supervisor(third, second, alone, first, seen=seen)
    starting = asyncio.create_task(supervisor.start())
    await eventually("both to run", lambda: "alone" in seen and bench.path("first-runs").exists())
    assert set(supervisor.pids()) == {"first", "alone"}
    release.touch()
    await starting
    assert seen == ["alone", "first", "second", "third"]
    assert set(supervisor.pids()) == {"first", "alone", "second", "third"}
    assert all(running.ready_after is not None for running in supervisor.running.values())


async def test_prepare_runs_after_the_needed_are_ready_and_before_the_start(bench: Bench) -> None:
    seen: list[str] = []
    states: list[tuple[list[str], bool]] = []

    async def prepare() -> None:
        states.append((list(seen), bench.path("second").exists()))

    supervisor = bench.supervisor(
        bench.child("first"),
        bench.child(
            "second", bench.writing("second"), ready=bench.written("second"), after=("first",), prepare=prepare
        ),
        seen=seen,
    )
    await supervisor.start()
    assert states == [(["first"], False)]
    assert bench.path("second").exists()


async def test_a_failing_prepare_ends_the_start_and_what_runs(bench: Bench) -> None:
    async def prepare() -> None:
        pids.update(supervisor.pids())
        raise StackError("the first record could not be written")

    pids: dict[str, int] = {}
    supervisor = bench.supervisor(bench.child("first"), bench.child("second", after=("first",), prepare=prepare))
    with pytest.raises(StackError, match="first record"):
        await supervisor.start()
    assert set(pids) == {"first"}
    assert gone(pids["first"])
    assert supervisor.pids() == {}


async def test_the_environment_is_exactly_what_the_entry_says(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEMASEAL_INHERITED", "must not arrive")
    given = {"ONE": "1", "LC_ALL": "C.UTF-8"}
    script = bench.writing("seen", "say = open('/proc/self/environ').read()")
    await bench.supervisor(bench.child("only", script, ready=bench.written("seen"), env=given)).start()
    entries = bench.path("seen").read_text("utf-8").rstrip("\0").split("\0")
    assert dict(entry.split("=", 1) for entry in entries) == given


async def test_output_goes_to_the_log_and_input_is_empty(bench: Bench) -> None:
    script = bench.writing(
        "done", "print('read', repr(sys.stdin.read()), flush=True); print('aside', file=sys.stderr, flush=True)"
    )
    child = bench.child("only", script, ready=bench.written("done"))
    await bench.supervisor(child).start()
    assert child.log.read_text("utf-8").splitlines() == ["read ''", "aside"]


async def test_not_ready_within_the_deadline(bench: Bench) -> None:
    async def never() -> bool:
        return False

    pids: list[int] = []

    async def note() -> bool:
        pids.extend(supervisor.pids().values())
        return await never()

    child = bench.child("slow", "import time; print('still loading', flush=True); time.sleep(600)", ready=note)
    slow = Child(**{name: getattr(child, name) for name in Child.__slots__} | {"deadline_seconds": 1.0})
    supervisor = bench.supervisor(bench.child("other"), slow)
    with pytest.raises(StackError) as caught:
        await supervisor.start()
    assert "slow did not become ready within 1 s" in str(caught.value)
    assert "    still loading\n" in str(caught.value)
    assert str(child.log) in str(caught.value)
    assert pids
    assert all(gone(pid) for pid in pids)
    assert supervisor.pids() == {}


@pytest.mark.parametrize(
    ("ending", "how"),
    [("sys.exit(7)", "ended with 7"), ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL")],
)
async def test_a_child_that_dies_during_the_start(bench: Bench, ending: str, how: str) -> None:
    noise = "".join(f"print('line {number}', flush=True);" for number in range(20))
    script = f"import os, signal, sys\n{noise}\n{ending}"
    pids: dict[str, int] = {}

    async def first_runs() -> None:
        pids.update(supervisor.pids())

    async def never() -> bool:
        return False

    supervisor = bench.supervisor(
        bench.child("first"),
        bench.child("broken", script, ready=never, after=("first",), prepare=first_runs),
        bench.child("third", after=("broken",)),
    )
    with pytest.raises(StackError) as caught:
        await supervisor.start()
    text = str(caught.value)
    assert text.startswith(f"broken {how}; its last lines (")
    assert "".join(f"    line {number}\n" for number in range(12, 20)) in text
    assert "line 11" not in text
    assert gone(pids["first"])
    assert supervisor.pids() == {}
    assert not (bench.home / "logs" / "third.log").exists(), "what needs it was never started"


async def test_a_failed_start_starts_nobody_afterwards(bench: Bench) -> None:
    """While the start is given up, a child becomes ready that another waits for: that one stays away."""
    giving_up = asyncio.Event()

    async def after_the_failure() -> bool:
        return giving_up.is_set()

    async def never() -> bool:
        return False

    async def fails() -> None:
        giving_up.set()
        raise StackError("given up")

    ignoring = bench.writing("first", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    supervisor = bench.supervisor(
        bench.child("stubborn", ignoring, ready=bench.written("first")),
        bench.child("late", ready=after_the_failure),
        bench.child("last", after=("late",), ready=never),
        bench.child("failing", after=("stubborn",), prepare=fails),
        grace=1.0,
    )
    with pytest.raises(StackError, match="given up"):
        await supervisor.start()
    assert not (bench.home / "logs" / "last.log").exists()
    assert supervisor.pids() == {}


async def test_a_start_that_is_cancelled_leaves_nobody(bench: Bench) -> None:
    async def never() -> bool:
        pids.update(supervisor.pids())
        return False

    pids: dict[str, int] = {}
    supervisor = bench.supervisor(bench.child("first"), bench.child("slow", ready=never), bench.child("third"))
    starting = asyncio.create_task(supervisor.start())
    await eventually("all to run", lambda: len(pids) == 3)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert all(gone(pid) for pid in pids.values())
    assert supervisor.pids() == {}


async def test_a_child_that_dies_after_the_start(bench: Bench) -> None:
    script = "import time; print('serving', flush=True); time.sleep(600)"
    dying = bench.child("dying", script)
    supervisor = bench.supervisor(bench.child("first"), dying, bench.child("third", after=("first",)))
    await supervisor.start()
    waiting = asyncio.create_task(supervisor.wait())
    pids = supervisor.pids()
    assert not any(gone(pid) for pid in pids.values())
    await eventually("its first words", lambda: bool(last_lines(dying.log)))
    os.kill(pids["dying"], signal.SIGSEGV)
    with pytest.raises(StackError) as caught:
        await asyncio.wait_for(waiting, 10)
    assert str(caught.value).startswith("dying was ended by SIGSEGV; its last lines (")
    assert "    serving\n" in str(caught.value)
    await supervisor.stop()
    assert all(gone(pid) for pid in pids.values())


@pytest.mark.parametrize(("free", "hinted"), [(FULL_BYTES - 1, True), (FULL_BYTES, False)])
async def test_a_death_on_a_full_disk_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, free: int, *, hinted: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(NEEDED_BYTES, NEEDED_BYTES - free, free))

    async def never() -> bool:
        return False

    with pytest.raises(StackError, match=r"^mute ended with 1; its last lines") as caught:
        await bench.supervisor(bench.child("mute", "raise SystemExit(1)", ready=never)).start()
    said = f"the disk is full (63 MB free at {bench.home / 'logs'}): free some space and start again"
    assert caught.value.hint == (said if hinted else "")


async def test_the_first_that_dies_is_named(bench: Bench) -> None:
    supervisor = bench.supervisor(bench.child("first"), bench.child("second"))
    await supervisor.start()
    waiting = asyncio.create_task(supervisor.wait())
    os.kill(supervisor.pids()["second"], signal.SIGKILL)
    with pytest.raises(StackError, match=r"^second was ended by SIGKILL"):
        await asyncio.wait_for(waiting, 10)
    os.kill(supervisor.pids()["first"], signal.SIGKILL)
    with pytest.raises(StackError, match=r"^second was ended by SIGKILL"):
        await asyncio.wait_for(supervisor.wait(), 10)


GRANDCHILD = "say = subprocess.Popen([sys.executable, '-S', '-c', {script!r}], stdout=subprocess.PIPE).pid"


async def test_stop_ends_grandchildren_too(bench: Bench) -> None:
    script = bench.writing("grandchild", GRANDCHILD.format(script=SLEEPER))
    supervisor = bench.supervisor(bench.child("parent", script, ready=bench.written("grandchild")))
    await supervisor.start()
    pids = [*supervisor.pids().values(), int(bench.path("grandchild").read_text("utf-8"))]
    assert not any(gone(pid) for pid in pids)
    await supervisor.stop()
    await_gone(*pids)


async def test_stop_ends_a_grandchild_that_ignores_the_request(bench: Bench) -> None:
    """Its parent ends when asked, so only the group leads to it."""
    stubborn = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    before = f"""
    grandchild = subprocess.Popen([sys.executable, '-S', '-c', {stubborn!r}], stdout=subprocess.PIPE)
    grandchild.stdout.readline()
    say = grandchild.pid
    """
    supervisor = bench.supervisor(
        bench.child("parent", bench.writing("grandchild", before), ready=bench.written("grandchild"))
    )
    await supervisor.start()
    pid = int(bench.path("grandchild").read_text("utf-8"))
    assert not gone(pid)
    await supervisor.stop()
    await_gone(pid)


async def test_stop_ends_the_grandchildren_of_a_child_that_died(bench: Bench) -> None:
    script = bench.writing("grandchild", GRANDCHILD.format(script=SLEEPER), "sys.exit(3)")
    supervisor = bench.supervisor(
        bench.child("first"),
        bench.child("parent", script, ready=bench.written("grandchild")),
    )
    with contextlib.suppress(StackError):
        await supervisor.start()
    with pytest.raises(StackError, match=r"^parent ended with 3"):
        await asyncio.wait_for(supervisor.wait(), 10)
    await supervisor.stop()
    await_gone(int(bench.path("grandchild").read_text("utf-8")))


async def test_stop_makes_those_end_that_ignore_the_request(bench: Bench) -> None:
    script = bench.writing("deaf", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    supervisor = bench.supervisor(bench.child("deaf", script, ready=bench.written("deaf")), grace=0.5)
    await supervisor.start()
    (running,) = supervisor.running.values()
    began = time.monotonic()
    await supervisor.stop()
    assert running.process.returncode == -signal.SIGKILL
    assert 0.5 <= time.monotonic() - began < 5


async def test_those_who_need_others_end_first(bench: Bench) -> None:
    """Each writes down, when asked to end, whether the one it needs still runs."""
    note = "signal.signal(signal.SIGTERM, lambda *_: ({note}, os._exit(0)))"
    path = bench.path("order")

    def script(name: str) -> str:
        append = f"open({str(path)!r}, 'a').write({name + ' '!r})"
        return bench.writing(name, note.format(note=append), "while True: signal.pause()")

    supervisor = bench.supervisor(
        bench.child("base", script("base"), ready=bench.written("base")),
        bench.child("user", script("user"), ready=bench.written("user"), after=("base",)),
    )
    await supervisor.start()
    running = dict(supervisor.running)
    await supervisor.stop()
    assert path.read_text("utf-8").split() == ["user", "base"]
    assert [entry.process.returncode for entry in running.values()] == [0, 0]


async def test_killed_on_purpose_and_started_again(bench: Bench) -> None:
    only = bench.child("only")
    supervisor = bench.supervisor(only, bench.child("other"))
    await supervisor.start()
    waiting = asyncio.create_task(supervisor.wait())
    before = supervisor.pids()
    await supervisor.kill("only")
    assert gone(before["only"])
    assert set(supervisor.pids()) == {"other"}
    await supervisor.spawn(only)
    after = supervisor.pids()
    assert after["only"] != before["only"]
    assert after["other"] == before["other"]
    assert not waiting.done(), "a death on purpose is no failure"
    os.kill(after["only"], signal.SIGKILL)
    with pytest.raises(StackError, match=r"^only was ended by SIGKILL"):
        await asyncio.wait_for(waiting, 10)


async def test_an_end_that_is_awaited(bench: Bench) -> None:
    ending = bench.child("ending", bench.writing("runs", "signal.signal(signal.SIGUSR1, lambda *_: os._exit(9))"),
        ready=bench.written("runs"))  # fmt: skip
    supervisor = bench.supervisor(ending)
    await supervisor.start()
    failed = asyncio.create_task(supervisor.wait())
    with pytest.raises(TimeoutError):
        await supervisor.ended("ending", 0.05)
    ended = asyncio.create_task(supervisor.ended("ending", 10))
    os.kill(supervisor.pids()["ending"], signal.SIGUSR1)
    assert await ended == 9
    assert supervisor.pids() == {}
    assert not failed.done()
    bench.path("runs").unlink()
    await supervisor.spawn(ending)
    os.kill(supervisor.pids()["ending"], signal.SIGUSR1)
    with pytest.raises(StackError, match="ending ended with 9"):
        await asyncio.wait_for(failed, 10)


PARENT = """
import asyncio, json, sys
from pathlib import Path
from schemaseal.devstack.supervisor import Child, Supervisor

async def always():
    return True

async def main():
    home = Path(sys.argv[1])
    argv = [sys.executable, "-S", "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    children = [Child(name, argv, {}, home / f"{name}.log", always) for name in ("one", "two")]
    supervisor = Supervisor(children)
    await supervisor.start()
    print(json.dumps(supervisor.pids()), flush=True)
    await supervisor.wait()

asyncio.run(main())
"""


def test_no_orphan_when_the_supervisor_itself_is_killed(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        pids: dict[str, int] = json.loads(parent.stdout.readline())
        assert set(pids) == {"one", "two"}
        assert not any(gone(pid) for pid in pids.values())
        parent.kill()
        parent.wait(10)
    await_gone(*pids.values())


def test_check_lists_every_fault_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearly_full(path: Path) -> Usage:
        assert path == bench.home
        return Usage(10 * NEEDED_BYTES, 9 * NEEDED_BYTES, NEEDED_BYTES - 1)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        taken, also = one.getsockname()[1], two.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as third:
            free = third.getsockname()[1]
        supervisor = bench.supervisor(
            bench.child("kafka", ports=(taken, free)), bench.child("oidc", ports=(also,)), bench.child("other")
        )
        with pytest.raises(StackError) as caught:
            supervisor.check(bench.home)
    assert str(caught.value) == (
        f"port {taken} for kafka is in use; port {also} for oidc is in use; less than 512 MB are free at {bench.home}"
    )
    assert "--ports auto" in caught.value.hint
    assert supervisor.pids() == {}


def test_check_passes_with_free_ports_and_just_enough_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def enough(path: Path) -> Usage:
        asked.append(path)
        return Usage(NEEDED_BYTES, 0, NEEDED_BYTES)

    monkeypatch.setattr(shutil, "disk_usage", enough)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port_in_use(port)
    assert not port_in_use(port)
    bench.supervisor(bench.child("kafka", ports=(port,))).check(bench.home)
    assert asked == [bench.home]


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == ""
    log.write_bytes(b"one\n" + b"x" * 400 + b"\n\xff\n")
    assert last_lines(log, 2) == "    " + "x" * 300 + "\n    \N{REPLACEMENT CHARACTER}\n"
