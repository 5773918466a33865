"""The local stack under a test's control: started once, parts ended and started again one by one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from schemaseal.devstack.deployment import free_ports, open_deployment
from schemaseal.devstack.story import Stack
from schemaseal.devstack.supervisor import Child, StackError, Supervisor
from schemaseal.devstack.up import children, write_ready

T = TypeVar("T")


class LocalStack(Stack):
    """All parts of `schemaseal up`, without its command line around them."""

    def __init__(self, data: Path) -> None:
        super().__init__(open_deployment(data, free_ports()))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stack", daemon=True)
        self._thread.start()
        self._children: dict[str, Child] = {}
        self._supervisor = Supervisor([])

    def _run(self, work: Coroutine[Any, Any, T], seconds: float = 200) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def start(self, before: Callable[[], None] | None = None) -> None:
        """Everything, ready. Raises `StackError`, and then nothing is left.

        `before` runs while only the registry and its identity provider are there: what it registers was there
        before the gateway.
        """
        found = children(self.deployment, {}, lambda _line: None)
        self._children = {child.name: child for child in found}
        self._supervisor = Supervisor(found)
        self._supervisor.check(self.deployment.data)
        if before is not None:
            self.spawn("oidc")
            self.spawn("registry")
            before()
            self.terminate("registry")
            self.terminate("oidc")
        self._run(self._supervisor.start())
        write_ready(self.deployment, self._supervisor)

    def end(self) -> None:
        """Everything, and the thread."""
        self.stop()
        self._run(self._supervisor.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def kill(self, name: str) -> None:
        """SIGKILL one part."""
        self._run(self._supervisor.kill(name))

    def terminate(self, name: str) -> None:
        """Ask one part to end, so that it writes down what it holds, and wait until it did."""
        os.killpg(self._supervisor.pids()[name], signal.SIGTERM)
        self._run(self._supervisor.ended(name, 30))

    def spawn(self, name: str, **environment: str) -> None:
        """Start one part again, ready on return."""
        child = self._children[name]
        self._run(self._supervisor.spawn(replace(child, env=child.env | environment)))

    def crash(self, name: str, point: str, seconds: float = 60) -> None:
        """Start a part that was killed; it must end itself at that crash point, before it is ready or after."""
        with contextlib.suppress(StackError):
            self.spawn(name, SCHEMASEAL_CRASH_AT=point)
        code = self._run(self._supervisor.ended(name, seconds), seconds + 10)
        assert code == -signal.SIGKILL, f"{name} ended with {code} instead of at {point}"
