"""Children of `schemaseal up`: started in order, watched, and ended whatever happens.

Invariants
* No orphan: every child asks the kernel for SIGKILL when its parent dies, and leads a process group that is
  ended as a whole.
* A child's environment is what its entry says and nothing else.
* The first child that dies ends the stack, with its name, exit code and last log lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from schemaseal.core.errors import SchemasealError

_PR_SET_PDEATHSIG = 1
NEEDED_BYTES = 512 * 1024 * 1024
FULL_BYTES = 64 * 1024 * 1024
Probe = Callable[[], Awaitable[bool]]


class StackError(SchemasealError):
    """The local stack cannot go on; the text names the part and shows its last words."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process. `after` names children that must be ready before; `prepare` runs just before the start."""

    name: str
    argv: Sequence[str]
    env: dict[str, str]
    log: Path
    ready: Probe
    after: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    prepare: Callable[[], Awaitable[None]] | None = None
    deadline_seconds: float = 90.0


@dataclass(slots=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process
    started: float
    ready_after: float | None = None


def _die_with_parent() -> None:
    """Runs in the child before exec: the kernel kills it when the supervisor goes, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def port_in_use(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def http_ready(url: str) -> Probe:
    """Ready when the URL answers 200."""

    async def probe() -> bool:
        try:
            async with httpx.AsyncClient(timeout=2) as http:
                return (await http.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    return probe


def last_lines(path: Path, count: int = 8) -> str:
    """The end of a log, indented."""
    try:
        with path.open("r", encoding="utf-8", errors="replace") as file:
            return "".join(f"    {line.rstrip()[:300]}\n" for line in deque(file, maxlen=count))
    except OSError:
        return ""


def _disk(directory: Path) -> str:
    """What a dead child often cannot say itself: that the disk is full."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError:
        return ""
    if free >= FULL_BYTES:
        return ""
    return f"the disk is full ({free // 1024 // 1024} MB free at {directory}): free some space and start again"


@dataclass(slots=True)
class Supervisor:
    """Starts children as soon as what they need is ready, and watches them."""

    children: Sequence[Child]
    progress: Callable[[str, float], None] = lambda _name, _seconds: None
    grace_seconds: float = 8.0
    running: dict[str, _Running] = field(default_factory=dict)
    _stopping: bool = False
    _expected: set[str] = field(default_factory=set)
    _died: asyncio.Event = field(default_factory=asyncio.Event)
    _watchers: set[asyncio.Task[None]] = field(default_factory=set)
    _failure: StackError | None = None

    def check(self, data: Path) -> None:
        """Faults that can be seen before anything starts. Raises `StackError` that lists all of them."""
        faults = [
            f"port {port} for {child.name} is in use"
            for child in self.children
            for port in child.ports
            if port_in_use(port)
        ]
        if shutil.disk_usage(data).free < NEEDED_BYTES:
            faults.append(f"less than {NEEDED_BYTES // 1024 // 1024} MB are free at {data}")
        if faults:
            raise StackError(
                "; ".join(faults),
                hint="end what holds the ports (or choose others with --ports auto); free the disk",
            )

    async def start(self) -> None:
        """All children, each when those it comes after are ready. Raises `StackError`; then none is left."""
        ready = {child.name: asyncio.Event() for child in self.children}
        tasks = [asyncio.create_task(self._bring_up(child, ready)) for child in self.children]
        died = asyncio.create_task(self._died.wait())
        try:
            everything = asyncio.gather(*tasks)
            waiting: set[asyncio.Future[Any]] = {everything, died}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                everything.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await everything
                raise self._failure
            await everything
        except BaseException as error:
            for task in tasks:  # or they would go on starting children while these are ended
                task.cancel()
            await asyncio.gather(*tasks, everything, return_exceptions=True)
            await self.stop()
            if isinstance(error, Exception) and self._failure is not None and error is not self._failure:
                raise self._failure from error
            raise
        finally:
            died.cancel()

    async def _bring_up(self, child: Child, ready: dict[str, asyncio.Event]) -> None:
        for name in child.after:
            await ready[name].wait()
        if child.prepare is not None:
            await child.prepare()
        await self.spawn(child)
        ready[child.name].set()

    async def spawn(self, child: Child) -> None:
        """Start one child and wait until it answers. Raises `StackError`."""
        child.log.parent.mkdir(parents=True, exist_ok=True)
        with child.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *child.argv,
                env=child.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._expected.discard(child.name)
        running = _Running(child, process, time.monotonic())
        self.running[child.name] = running
        watcher = asyncio.create_task(self._watch(running))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        while not await child.ready():
            if process.returncode is not None:
                raise self._failure or self._dead(running)
            if time.monotonic() - running.started > child.deadline_seconds:
                raise StackError(
                    f"{child.name} did not become ready within {child.deadline_seconds:.0f} s; "
                    f"its last lines ({child.log}):\n{last_lines(child.log)}"
                )
            await asyncio.sleep(0.05)
        running.ready_after = time.monotonic() - running.started
        self.progress(child.name, running.ready_after)

    def _dead(self, running: _Running) -> StackError:
        code = running.process.returncode
        how = f"ended with {code}" if code is None or code >= 0 else f"was ended by {signal.Signals(-code).name}"
        child = running.child
        return StackError(
            f"{child.name} {how}; its last lines ({child.log}):\n{last_lines(child.log)}", hint=_disk(child.log.parent)
        )

    async def _watch(self, running: _Running) -> None:
        await running.process.wait()
        name = running.child.name
        wanted = self._stopping or name in self._expected or self.running.get(name) is not running
        if not wanted and self._failure is None:
            self._failure = self._dead(running)
            self._died.set()

    async def wait(self) -> None:
        """Until a child dies. Raises `StackError`."""
        await self._died.wait()
        assert self._failure is not None  # noqa: S101 - set before the event
        raise self._failure

    def pids(self) -> dict[str, int]:
        return {name: running.process.pid for name, running in self.running.items()}

    async def kill(self, name: str) -> None:
        """SIGKILL one child on purpose: it does not count as having died."""
        running = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        await running.process.wait()

    async def ended(self, name: str, seconds: float) -> int:
        """Wait until one child ends by itself, on purpose; returns its exit code. Raises `TimeoutError`."""
        running = self.running[name]
        self._expected.add(name)
        code = await asyncio.wait_for(running.process.wait(), seconds)
        self.running.pop(name)
        return code

    async def stop(self) -> None:
        """End all children: first those that need others, then the rest; asked, then made."""
        self._stopping = True
        dependent = [running for running in self.running.values() if running.child.after]
        await self._end(dependent)
        await self._end([running for running in self.running.values() if not running.child.after])
        self.running.clear()

    async def _end(self, wave: Sequence[_Running]) -> None:
        for running in wave:  # a child that died may have left others in its group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGTERM)
        waiting = [asyncio.create_task(running.process.wait()) for running in wave]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=self.grace_seconds)
        for running in wave:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)
        if late:
            await asyncio.wait(late, timeout=5)
