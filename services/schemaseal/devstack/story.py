"""What the demo and the end-to-end tests share: a running local stack and the people who use it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from confluent_kafka.schema_registry import SchemaRegistryClient

from schemaseal.devstack.deployment import Deployment, Ports, open_deployment
from schemaseal.devstack.registry import DirectRegistry
from schemaseal.devstack.tokens import fetch_client_token, fetch_token

T = TypeVar("T")
READY_SECONDS = 240


class StackFailed(RuntimeError):  # noqa: N818 - named for what it is
    """The stack did not come up or went down; the text says what it printed."""


def until(what: str, probe: Callable[[], T | None], seconds: float = 30.0, every: float = 0.1) -> T:
    """The first non-None answer of `probe`. Raises `TimeoutError` that names what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)


@dataclass(slots=True)
class Stack:
    """A running stack (usually `schemaseal up` as a child process), and what a person needs to use it."""

    deployment: Deployment
    process: subprocess.Popen[bytes] | None = None
    tokens: list[str] = field(default_factory=list)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16))
    _opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def status(self) -> dict[str, Any]:
        """What `up` wrote when everything was ready: start-up seconds and pid of every part."""
        status: dict[str, Any] = json.loads((self.deployment.data / "ready.json").read_text("utf-8"))
        return status

    def person(self, name: str) -> str:
        """A fresh access token of a person, by interactive-style login at the local provider."""
        users = json.loads((self.deployment.data / "oidc" / "users.json").read_text("utf-8"))
        token = fetch_token(self.deployment.issuer, name, users[name]).access_token
        self.tokens.append(token)
        return token

    def machine(self, client: str = "ci", run_by: str | None = "alice") -> str:
        """A fresh access token of a service account whose run a person set off."""
        secret = json.loads((self.deployment.secrets("operator") / "clients.json").read_text("utf-8"))[client]
        token = fetch_client_token(self.deployment.issuer, client, secret, run_by=run_by).access_token
        self.tokens.append(token)
        return token

    def id_token(self, name: str) -> str:
        """An ID token: proof of a login, not permission for anything."""
        users = json.loads((self.deployment.data / "oidc" / "users.json").read_text("utf-8"))
        token = fetch_token(self.deployment.issuer, name, users[name], scope="openid").id_token
        if token is None:
            raise StackFailed("the provider gave no ID token")
        self.tokens.append(token)
        return token

    def registry_client(self, token: str) -> SchemaRegistryClient:
        """The unmodified Confluent client, pointed at ingress with somebody's own token."""
        client = SchemaRegistryClient(
            {
                "url": self.deployment.ingress_url,
                "bearer.auth.credentials.source": "STATIC_TOKEN",
                "bearer.auth.token": token,
                "bearer.auth.logical.cluster": "lsrc-local",
                "bearer.auth.identity.pool.id": "pool-local",
                "timeout": 60,
            }
        )
        self._opened.enter_context(client)
        return client

    def direct(self) -> DirectRegistry:
        """The registry itself, around the gateway."""
        return self._opened.enter_context(contextlib.closing(DirectRegistry(self.deployment)))

    def background(self, call: Callable[[], T]) -> Future[T | BaseException]:
        """Run a call that will be held; its result is the value or the exception."""

        def run() -> T | BaseException:
            try:
                return call()
            except Exception as error:  # noqa: BLE001 - a held client's error is the result
                return error

        return self.pool.submit(run)

    def cli(self, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """The product's own command as somebody would type it."""
        environment = os.environ | {
            "SCHEMASEAL_DECISIONS_URL": self.deployment.decisions_url,
            "NO_COLOR": "1",
        }
        if token is not None:
            environment["SCHEMASEAL_TOKEN"] = token
        return subprocess.run(
            [sys.executable, "-m", "schemaseal.cli", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def pending(self, operation: str, token: str, requester: str | None = None) -> dict[str, Any] | None:
        """The newest change that waits for people, as the CLI lists it."""
        listed = self.cli("change", "list", "--json", token=token)
        if listed.returncode != 0:
            raise StackFailed(f"schemaseal change list: {listed.stderr.strip()}")
        found = [
            change
            for change in json.loads(listed.stdout)
            if change["state"] == "pending"
            and change["operation"] == operation
            and requester in (None, change["requester"].get("name"))
        ]
        return found[-1] if found else None

    def sql(self, user: str = "ana") -> Client:
        """An unmodified ClickHouse client."""
        return clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.deployment.ports.clickhouse,
            username=user,
            password=self.deployment.clickhouse_password(user),
            database="evidence",
        )

    def stop(self, seconds: float = 60) -> int:
        """End the stack as Ctrl-C would; returns its exit code."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self._opened.close()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise StackFailed(f"the stack did not end within {seconds:.0f} s") from None


def start_stack(
    data: Path, ports: Ports | None = None, *, environment: dict[str, str] | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Stack:  # fmt: skip
    """`schemaseal up` on a data directory; returns when it says that everything is ready.

    Raises `StackFailed` with what it printed when it ends before.
    """
    deployment = open_deployment(data, ports)
    ready = deployment.data / "ready.json"
    ready.unlink(missing_ok=True)
    output = deployment.data / "up.log"
    with output.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "schemaseal.cli", "up", "--data", str(deployment.data)],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "160"} | (environment or {}),
            start_new_session=True,
        )
    seen = 0
    deadline = time.monotonic() + READY_SECONDS
    while not ready.exists():
        lines = output.read_text("utf-8", "replace").splitlines()
        for line in lines[seen:]:
            progress(line)
        seen = len(lines)
        if process.poll() is not None or time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise StackFailed("the local stack did not start:\n" + "\n".join(lines[-15:]))
        time.sleep(0.05)
    return Stack(deployment, process)


@contextlib.contextmanager
def running_stack(data: Path, ports: Ports | None = None, **kwargs: Any) -> Iterator[Stack]:
    """A stack that is ended whatever happens inside."""
    stack = start_stack(data, ports, **kwargs)
    try:
        yield stack
    finally:
        stack.stop()
