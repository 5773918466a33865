"""`schemaseal up` as somebody types it: what it prints, what stays, and that nothing goes wrong silently."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemaseal.devstack import orders
from schemaseal.devstack.deployment import Ports, free_ports, open_deployment
from schemaseal.devstack.story import READY_SECONDS, Stack, until

pytestmark = pytest.mark.timeout(300)
SUBJECT = "orders-value"
V1 = Schema(orders.order_v1_text(), "JSON")
V2 = Schema(orders.order_v2_text(), "JSON")
PARTS = {
    "kafka", "oidc", "registry", "clickhouse", "sealed", "streams", "applier", "evidence", "decisions", "ingress",
}  # fmt: skip
UP = (sys.executable, "-m", "schemaseal.cli", "up")
NEARLY_FULL = """
import shutil
from schemaseal.cli.main import main
shutil.disk_usage = lambda path: type("Usage", (), {"free": 511 * 1024 * 1024})
main()
"""


@dataclass(frozen=True, slots=True)
class Up:
    """One run of the command, and what it says."""

    process: subprocess.Popen[bytes]
    data: Path
    said: Path
    complained: Path

    @property
    def stdout(self) -> str:
        return self.said.read_text("utf-8")

    @property
    def stderr(self) -> str:
        return self.complained.read_text("utf-8")

    def pids(self) -> dict[str, int]:
        """The parts, as `ready.json` lists them once everything is ready."""
        found: dict[str, int] = json.loads((self.data / "ready.json").read_text("utf-8"))["pids"]
        return found

    def await_ready(self) -> Stack:
        def probe() -> bool | None:
            assert self.process.poll() is None, self.stdout + self.stderr
            return (self.data / "ready.json").exists() or None

        until("everything to be ready", probe, READY_SECONDS)
        return Stack(open_deployment(self.data), self.process)

    def await_child(self, part: str) -> psutil.Process:
        """A part during the start, when `ready.json` is not there yet: known by the log that it writes to."""
        log = self.data / "logs" / f"{part}.log"

        def probe() -> psutil.Process | None:
            assert self.process.poll() is None, self.stdout + self.stderr
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{child.pid}/fd/1").readlink() == log:
                        return child
            return None

        return until(f"{part} to start", probe, 60, 0.02)

    def failed(self, seconds: float = 60) -> list[str]:
        """The message of a run that ends by itself with exit code 1: its lines."""
        assert self.process.wait(seconds) == 1, self.stdout + self.stderr
        lines = self.stderr.splitlines()
        assert lines[0].startswith("schemaseal: "), self.stderr
        assert [line for line in lines if "Traceback" in line or "exception was never retrieved" in line] == []
        assert len([line for line in lines if line.startswith("schemaseal:")]) == 1, "one message"
        assert not (self.data / "ready.json").exists()
        return lines


Start = Callable[..., Up]


def running(data: Path) -> dict[int, str]:
    """Processes that have to do with a data directory: it is in their arguments or their environment."""
    found = {}
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(data) in word for word in words):
                found[process.pid] = shlex.join(process.cmdline())[:200]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def nobody_runs(data: Path) -> None:
    """Also for those whom the kernel ends, which takes it a moment."""
    left: dict[int, str] = {}

    def probe() -> bool | None:
        left.clear()
        left.update(running(data))
        return not left or None

    try:
        until("the last process to end", probe, 10)
    except TimeoutError:
        pytest.fail(f"left behind: {left}")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts the command; whatever still runs at the end is ended."""
    made: list[Up] = []

    def run(data: Path, *arguments: str, command: tuple[str, ...] = UP, **environment: str) -> Up:
        out = tmp_path_factory.mktemp("up")
        with (out / "stdout").open("wb") as said, (out / "stderr").open("wb") as complained:
            process = subprocess.Popen(
                [*command, "--data", str(data), *arguments],
                stdout=said,
                stderr=complained,
                env=os.environ | {"NO_COLOR": "1"} | environment,
            )
        made.append(Up(process, data, out / "stdout", out / "stderr"))
        return made[-1]

    yield run
    for up in made:
        up.process.kill()
        up.process.wait()
        nobody_runs(up.data)


@dataclass(frozen=True, slots=True)
class FirstLife:
    """What the first run printed and did, until Ctrl-C."""

    data: Path
    ports: Ports
    stdout: str
    stderr: str
    exit_code: int
    parts: set[str]
    left: dict[int, str]
    schema_id: int
    pending: str
    rows: list[tuple[Any, ...]]
    tried: dict[str, subprocess.CompletedProcess[str]]
    log_size: int


def changes(stack: Stack) -> list[tuple[Any, ...]]:
    """Closed changes, as an auditor sees them."""
    with stack.sql() as sql:
        found = sql.query(
            "SELECT change_id, outcome, requester_name, approvers FROM changes WHERE subject = {s:String} "
            "AND outcome = 'applied' ORDER BY change_id",
            parameters={"s": SUBJECT},
        )
    return [tuple(row) for row in found.result_rows]


def verified(stack: Stack, out: Path) -> int:
    """Export and verify with the product's own commands; returns the log's size."""
    exported = stack.cli("audit", "export", "--data", str(stack.deployment.data), "--out", str(out), "--json")
    assert exported.returncode == 0, exported.stderr
    report = stack.cli("verify", str(out), "--key", stack.deployment.vkey, "--json")
    assert report.returncode == 0, report.stdout + report.stderr
    size: int = json.loads(exported.stdout)["size"]
    return size


def register(stack: Stack, schema: Schema) -> int:
    return stack.registry_client(stack.person("alice")).register_schema(SUBJECT, schema)


def printed_commands(stdout: str) -> list[str]:
    """What stands under `Try:`."""
    _, _, after = stdout.partition("Try:\n")
    return [line.strip() for line in after.splitlines() if line.startswith("  ")]


@pytest.fixture(scope="module")
def first(start: Start, tmp_path_factory: pytest.TempPathFactory) -> FirstLife:
    data, away = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("away")
    up = start(data, "--ports", "auto")
    stack = up.await_ready()
    pids = up.pids()
    assert all(psutil.pid_exists(pid) for pid in pids.values())
    schema_id = register(stack, V1)
    held = stack.background(lambda: register(stack, V2))
    bob = stack.person("bob")
    change = until("the change to wait", lambda: stack.pending("register", bob, "alice"), 60)
    answer = held.result(60)
    assert isinstance(answer, SchemaRegistryError), answer
    assert answer.http_status_code == 423
    rows = until("the first version in evidence", lambda: changes(stack) or None, 60)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    tried = {
        command: subprocess.run(
            ["bash", "-c", command],
            env=os.environ | {"PATH": path, "NO_COLOR": "1"},
            cwd=away,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for command in printed_commands(up.stdout)
    }
    log_size = verified(stack, away / "verified")
    exit_code = stack.stop()
    left = {pid: name for name, pid in pids.items() if psutil.pid_exists(pid)}
    return FirstLife(
        data, stack.deployment.ports, up.stdout, up.stderr, exit_code, set(pids), left | running(data),
        schema_id, change["change_id"], rows, tried, log_size,
    )  # fmt: skip


@pytest.fixture(scope="module")
def second(start: Start, first: FirstLife) -> Iterator[tuple[Up, Stack]]:
    up = start(first.data, "--ports", "auto")
    stack = up.await_ready()
    yield up, stack
    stack.stop()


def test_it_prints_addresses_people_and_three_commands(first: FirstLife) -> None:
    lines = [line.split() for line in first.stdout.splitlines()]
    base = "http://127.0.0.1:"
    assert ["ingress", f"{base}{first.ports.ingress}"] in lines
    assert ["decisions", f"{base}{first.ports.decisions}"] in lines
    assert ["identity", "provider", f"{base}{first.ports.oidc}"] in lines
    assert ["clickhouse", f"{base}{first.ports.clickhouse}"] in lines
    assert ["kafka", f"127.0.0.1:{first.ports.kafka}"] in lines
    (people,) = (line for line in first.stdout.splitlines() if line.startswith("  people "))
    assert people.split(maxsplit=1)[1] == (
        "alice (engineer), bob and carol (schema owners), ana (auditor); machine: ci"
    )
    assert {words[1] for words in lines if words[:1] == ["✓"]} == first.parts == PARTS
    assert "Ctrl-C ends everything." in first.stdout


def test_the_three_commands_do_what_they_say(first: FirstLife) -> None:
    assert len(first.tried) == 3
    assert {done.returncode for done in first.tried.values()} == {0}, first.tried
    subjects, listed, audit = (done.stdout for done in first.tried.values())
    assert json.loads(subjects) == [SUBJECT]
    assert first.pending[:8] in listed
    assert str(first.log_size) in audit


def test_ctrl_c_ends_every_child(first: FirstLife) -> None:
    assert first.exit_code == 0
    assert first.left == {}
    assert first.stdout.rstrip().endswith("Everything has ended.")
    assert first.stderr == ""
    assert not (first.data / "ready.json").exists()


def test_started_again_nothing_is_lost(first: FirstLife, second: tuple[Up, Stack], tmp_path: Path) -> None:
    _, stack = second
    assert stack.deployment.ports == first.ports
    latest = stack.registry_client(stack.person("alice")).get_latest_version(SUBJECT)
    assert (latest.schema_id, latest.version) == (first.schema_id, 1)
    assert latest.schema is not None
    assert latest.schema.schema_str == orders.order_v1_text()
    assert changes(stack) == first.rows
    assert [row[1:] for row in first.rows] == [("applied", "alice", [])]
    assert register(stack, V1) == first.schema_id, "a repeated call is answered"
    assert stack.direct().versions(SUBJECT) == [1]
    bob = stack.person("bob")
    waiting = stack.pending("register", bob, "alice")
    assert waiting is not None
    assert waiting["change_id"] == first.pending, "what waited for people waits still"
    approved = stack.cli("change", "approve", first.pending, "--reason", "reviewed", token=bob)
    assert approved.returncode == 0, approved.stderr

    def answer() -> int | None:
        value = stack.background(lambda: register(stack, V2)).result(60)
        return value if isinstance(value, int) else None

    assert until("the answer to alice's repeated call", answer, 60) != first.schema_id
    assert stack.direct().versions(SUBJECT) == [1, 2]
    rows = until("the approved change in evidence", lambda: len(changes(stack)) == 2 or None, 60)
    assert rows
    assert [row[2:] for row in changes(stack) if row[0] == first.pending] == [("alice", ["bob"])]
    assert verified(stack, tmp_path / "export") > first.log_size


def test_a_directory_in_which_a_stack_runs(start: Start, first: FirstLife, second: tuple[Up, Stack]) -> None:
    _, stack = second
    another = start(first.data, "--ports", "auto")
    assert another.process.wait(20) == 1
    assert another.stderr.splitlines() == [
        f"schemaseal: a local stack runs in {first.data} already",
        "  use that one, end it, or choose another --data directory",
    ]
    assert open_deployment(first.data).ports == first.ports
    assert stack.direct().versions(SUBJECT)[0] == 1, "the one that runs was not disturbed"


def test_a_child_that_dies_ends_everything(start: Start, second: tuple[Up, Stack]) -> None:
    up, _ = second
    pids = up.pids()
    os.kill(pids["kafka"], signal.SIGKILL)
    lines = up.failed()
    assert lines[0] == f"schemaseal: kafka was ended by SIGKILL; its last lines ({up.data / 'logs' / 'kafka.log'}):"
    assert len(lines) <= 10
    assert {name: pid for name, pid in pids.items() if psutil.pid_exists(pid)} == {}
    nobody_runs(up.data)


@pytest.mark.parametrize("part", ["oidc", "clickhouse"])
def test_a_child_that_dies_during_the_start(start: Start, tmp_path: Path, part: str) -> None:
    up = start(tmp_path, "--ports", "auto")
    up.await_child("registry")  # it comes after oidc
    up.await_child(part).kill()
    lines = up.failed()
    assert lines[0] == f"schemaseal: {part} was ended by SIGKILL; its last lines ({tmp_path / 'logs' / part}.log):"
    nobody_runs(tmp_path)
    assert not (tmp_path / "logs" / "ingress.log").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_during_the_start(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    up = start(tmp_path, "--ports", "auto")
    up.await_child("registry")
    up.process.send_signal(number)
    assert up.process.wait(30) == 0
    assert running(tmp_path) == {}
    assert up.stderr == ""
    assert up.stdout.rstrip().endswith("Everything has ended.")
    assert "schemaseal is up." not in up.stdout


def test_killed_it_takes_its_children_along(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path, "--ports", "auto")
    up.await_child("registry")
    assert len(running(tmp_path)) > 3
    up.process.kill()
    assert up.process.wait(10) == -signal.SIGKILL
    nobody_runs(tmp_path)


def test_a_port_in_use(start: Start, tmp_path: Path) -> None:
    ports = free_ports()
    open_deployment(tmp_path, ports)
    with socket.create_server(("127.0.0.1", ports.oidc)), socket.create_server(("127.0.0.1", ports.kafka)):
        up = start(tmp_path)
        lines = up.failed(20)
    assert lines == [
        f"schemaseal: port {ports.kafka} for kafka is in use; port {ports.oidc} for oidc is in use",
        "  end what holds the ports (or choose others with --ports auto); free the disk",
    ]
    assert list((tmp_path / "logs").iterdir()) == [], "nothing was started"
    nobody_runs(tmp_path)


def test_a_port_in_use_is_replaced_by_auto(start: Start, tmp_path: Path) -> None:
    ports = free_ports()
    open_deployment(tmp_path, ports)
    with socket.create_server(("127.0.0.1", ports.oidc)):
        up = start(tmp_path, "--ports", "auto")
        up.await_child("registry")
        now = asdict(open_deployment(tmp_path).ports)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(30) == 0
    assert {name for name, port in asdict(ports).items() if now[name] != port} == {"oidc"}
    nobody_runs(tmp_path)


def test_an_unreachable_package_registry_and_an_empty_cache(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    proxies = dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], closed)
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "no_proxy": "", "NO_PROXY": ""}
    up = start(tmp_path / "data", "--ports", "auto", **proxies, **home)
    lines = up.failed(30)
    assert lines[0].startswith("schemaseal: Apache Kafka could not be fetched: ")
    assert lines[1:] == ["  the package registry for Java must be reachable the first time; later starts use the cache"]
    assert list((tmp_path / "cache" / "schemaseal").iterdir()) == []
    nobody_runs(tmp_path)


def test_ctrl_c_ends_a_download_at_once(start: Start, tmp_path: Path) -> None:
    """The package registry takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"
        proxies = dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], silent)
        homes = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        up = start(tmp_path / "data", "--ports", "auto", no_proxy="", NO_PROXY="", **proxies, **homes)
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(8) == b"CONNECT "
            up.process.send_signal(signal.SIGINT)
            assert up.process.wait(5) == 0
    assert up.stderr == ""
    assert list((tmp_path / "cache" / "schemaseal").iterdir()) == []
    nobody_runs(tmp_path)


def test_a_nearly_full_disk(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path, "--ports", "auto", command=(sys.executable, "-c", NEARLY_FULL, "up"))
    assert up.failed(20)[0] == f"schemaseal: less than 512 MB are free at {tmp_path}"
    assert list((tmp_path / "logs").iterdir()) == [], "nothing was started"
    nobody_runs(tmp_path)


def test_a_child_that_cannot_write(start: Start, tmp_path: Path) -> None:
    """No file may be larger than 4 MB, so that the broker cannot make its index files."""
    up = start(tmp_path, "--ports", "auto", command=("bash", "-c", 'ulimit -f 4096; exec "$@"', "up", *UP))
    assert up.failed()[0] == f"schemaseal: kafka ended with 1; its last lines ({tmp_path / 'logs' / 'kafka.log'}):"
    nobody_runs(tmp_path)


def test_a_directory_that_cannot_be_used(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory", "utf-8")
    up = start(file, "--ports", "auto")
    assert up.process.wait(20) == 1
    assert up.stderr.splitlines() == [
        f"schemaseal: the data directory {file} cannot be used: File exists",
        "  free some disk space or choose another --data directory",
    ]
