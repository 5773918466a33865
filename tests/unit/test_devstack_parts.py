"""Fetching the real parts (against a package registry on loopback), and the deployment on disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest

from schemaseal.core.errors import SettingsError
from schemaseal.devstack import deployment as module
from schemaseal.devstack import parts
from schemaseal.devstack.deployment import (
    SERVICES,
    Deployment,
    Ports,
    free_ports,
    held,
    known_ports,
    open_deployment,
)
from schemaseal.devstack.parts import PartsUnavailable, apicurio_home, cache_home, kafka_jars

ARCHIVE = "/io/apicurio/apicurio-registry-app/3.3.3/apicurio-registry-app-3.3.3-all.tar.gz"
KAFKA = "/org/apache/kafka/kafka_2.13/4.4.0/kafka_2.13-4.4.0"
APICURIO_HOME = "apicurio-registry-app-3.3.3"
KAFKA_HOME = "org.apache.kafka-kafka_2.13-4.4.0"


@dataclass
class PackageRegistry:
    """A Maven repository on loopback. Paths in `cut` are answered with half of what was announced, once each."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def put(self, path: str, content: bytes) -> None:
        self.files[path] = content
        self.files[path + ".sha1"] = hashlib.sha1(content, usedforsecurity=False).hexdigest().encode()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                content = registry.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if self.path in registry.cut:
                    registry.cut.discard(self.path)
                    content = (content or b"")[: len(content or b"") // 2]
                self.wfile.write(content or b"")

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler


@pytest.fixture(autouse=True)
def _homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home and cache, and no proxy but the one a test sets."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "m2_repo"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageRegistry]:
    made = PackageRegistry()
    with ThreadingHTTPServer(("127.0.0.1", 0), made.handler()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setattr(
            "jgo.maven._core.DEFAULT_REMOTE_REPOS", {"central": f"http://127.0.0.1:{server.server_port}"}
        )
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way out leads through a proxy that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, closed)


def distribution() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"quarkus-run.jar": b"jar", "lib/one.jar": os.urandom(4096)}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def jar() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        archive.writestr("kafka.txt", os.urandom(4096))
    return buffer.getvalue()


POM = b"""<?xml version="1.0"?><project><modelVersion>4.0.0</modelVersion>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.4.0</version></project>"""


def cached() -> list[str]:
    """Everything that lies in the cache: under its final name, or left behind."""
    return sorted(path.name for path in cache_home().iterdir()) if cache_home().exists() else []


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_home() == tmp_path / "cache" / "schemaseal"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == tmp_path / "home" / ".cache" / "schemaseal"


@pytest.mark.usefixtures("nobody_listens")
@pytest.mark.parametrize(("fetch", "what"), [(kafka_jars, "Apache Kafka"), (apicurio_home, "Apicurio Registry")])
def test_an_unreachable_package_registry_is_one_sentence(
    fetch: Any, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PartsUnavailable) as caught:
        fetch()
    assert str(caught.value).startswith(f"{what} could not be fetched: ")
    assert "\n" not in str(caught.value)
    assert (
        caught.value.hint
        == "the package registry for Java must be reachable the first time; later starts use the cache"
    )
    assert cached() == []
    assert capsys.readouterr() == ("", "")


def test_a_registry_without_the_part(registry: PackageRegistry) -> None:
    with pytest.raises(PartsUnavailable, match="Apicurio Registry could not be fetched"):
        apicurio_home()
    assert registry.asked == [ARCHIVE]
    assert cached() == []


def test_a_fetch_that_breaks_off_is_done_again(registry: PackageRegistry) -> None:
    registry.put(ARCHIVE, distribution())
    registry.cut.add(ARCHIVE)
    with pytest.raises(PartsUnavailable, match="Apicurio Registry could not be fetched"):
        apicurio_home()
    assert cached() == []
    told: list[str] = []
    home = apicurio_home(told.append)
    assert told == ["fetching Apicurio Registry (158 MB, once)"]
    assert registry.asked.count(ARCHIVE) == 2
    assert home == cache_home() / APICURIO_HOME
    assert (home / "quarkus-run.jar").read_bytes() == b"jar"
    assert (home / "lib" / "one.jar").stat().st_size == 4096
    assert cached() == [APICURIO_HOME]


def test_a_jar_that_breaks_off_is_fetched_again(registry: PackageRegistry) -> None:
    content = jar()
    registry.put(KAFKA + ".pom", POM)
    registry.put(KAFKA + ".jar", content)
    registry.cut.add(KAFKA + ".jar")
    with pytest.raises(PartsUnavailable, match="Apache Kafka could not be fetched"):
        kafka_jars()
    assert cached() == []
    home = kafka_jars()
    assert home == cache_home() / KAFKA_HOME
    assert {path.name: path.read_bytes() for path in home.iterdir()} == {"kafka_2.13-4.4.0.jar": content}
    assert registry.asked.count(KAFKA + ".jar") == 2
    assert cached() == [KAFKA_HOME]


def test_what_a_killed_fetch_left_is_not_trusted(registry: PackageRegistry, tmp_path: Path) -> None:
    content = distribution()
    registry.put(ARCHIVE, content)
    half = tmp_path / "home" / ".m2" / "repository" / ARCHIVE[1:]
    half.parent.mkdir(parents=True)
    half.write_bytes(content[: len(content) // 2])
    staging = cache_home() / f"{APICURIO_HOME}.left0ver"
    staging.mkdir(parents=True)
    (staging / "quarkus-run.jar").write_bytes(b"half")
    home = apicurio_home()
    assert (home / "quarkus-run.jar").read_bytes() == b"jar"
    assert registry.asked.count(ARCHIVE) == 1
    assert half.read_bytes() == content[: len(content) // 2], "the user's own repository is not ours to repair"


def test_a_full_disk_is_said_and_nothing_is_left(registry: PackageRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.put(ARCHIVE, distribution())

    def full(_self: tarfile.TarFile, path: Path, *_options: Any) -> NoReturn:
        (Path(path) / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(PartsUnavailable, match="Apicurio Registry does not fit on the disk") as caught:
        apicurio_home()
    assert caught.value.hint == "free 1 GB and start again"
    assert cached() == []


def test_a_start_that_was_faster_wins(registry: PackageRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.put(ARCHIVE, distribution())
    extract = tarfile.TarFile.extractall

    def slow(self: tarfile.TarFile, path: Path, *members: Any) -> None:
        extract(self, path, *members)
        other = cache_home() / APICURIO_HOME
        other.mkdir()
        (other / "quarkus-run.jar").write_bytes(b"the other's")

    monkeypatch.setattr(tarfile.TarFile, "extractall", slow)
    assert (apicurio_home() / "quarkus-run.jar").read_bytes() == b"the other's"
    assert cached() == [APICURIO_HOME]


@pytest.mark.disable_socket
def test_an_existing_cache_needs_no_network() -> None:
    told: list[str] = []
    for name in (KAFKA_HOME, APICURIO_HOME):
        (cache_home() / name).mkdir(parents=True)
    assert kafka_jars(told.append) == cache_home() / KAFKA_HOME
    assert apicurio_home(told.append) == cache_home() / APICURIO_HOME
    assert told == []


def test_java_comes_with_the_package() -> None:
    done = subprocess.run([parts.java(), "-version"], capture_output=True, text=True, timeout=60, check=True)
    assert "version" in done.stderr


def tree(data: Path) -> dict[str, bytes]:
    """Every file of a deployment."""
    return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}


def test_opened_again_everything_is_as_it_was(tmp_path: Path) -> None:
    ports = free_ports()
    first = open_deployment(tmp_path / "data", ports)
    before = tree(first.data)
    again = open_deployment(tmp_path / "data")
    assert again == first
    assert again.ports == ports
    assert tree(again.data) == before
    assert again.settings("streams").mask_key_id == first.settings("streams").mask_key_id
    assert known_ports(tmp_path / "data") == ports


def test_two_deployments_share_no_secret(tmp_path: Path) -> None:
    def secrets(name: str) -> dict[str, bytes]:
        data = open_deployment(tmp_path / name).data
        return {str(path.relative_to(data)): path.read_bytes() for path in (data / "secrets").rglob("*.*")}

    one, two = secrets("one"), secrets("two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] == two[name]] == []


def test_other_ports_reach_everything_that_names_a_port(tmp_path: Path) -> None:
    first = open_deployment(tmp_path / "data", free_ports())
    keys = (first.data / "public" / "keys.json").read_bytes()
    moved = Ports(**{name: port + 1 for name, port in asdict(Ports()).items()})
    open_deployment(tmp_path / "data", moved)
    again = open_deployment(tmp_path / "data")
    assert again.ports == moved
    assert again.settings().kafka.bootstrap == f"127.0.0.1:{moved.kafka}"
    assert again.settings().issuers[0].url == f"http://127.0.0.1:{moved.oidc}"
    target = json.loads((again.secrets("applier") / "target-registry.json").read_text("utf-8"))
    assert {target[use]["token_url"] for use in ("read", "write")} == {f"http://127.0.0.1:{moved.oidc}/token"}
    assert (again.data / "public" / "keys.json").read_bytes() == keys


def test_a_move_that_was_interrupted_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_deployment(tmp_path / "data", free_ports())
    moved = Ports(**{name: port + 1 for name, port in asdict(Ports()).items()})
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write_settings", interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_deployment(first.data, moved)
    again = open_deployment(first.data)
    assert again.ports == moved
    assert again.settings().kafka.bootstrap == f"127.0.0.1:{moved.kafka}"
    assert f"{moved.oidc}/token" in (again.secrets("applier") / "target-registry.json").read_text("utf-8")


def interrupt(_deployment: Deployment) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["_create", "_write_clickhouse", "_write_clients", "_write_settings", "_write_marker"])
def test_a_first_creation_that_was_interrupted_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_deployment(tmp_path / "data")
    assert not (tmp_path / "data" / "deployment.json").exists()
    made = open_deployment(tmp_path / "data")
    whole = open_deployment(tmp_path / "whole")
    assert tree(made.data).keys() == tree(whole.data).keys()
    clients = json.loads((made.data / "oidc" / "clients.json").read_text("utf-8"))
    assert json.loads((made.secrets("operator") / "clients.json").read_text("utf-8")) == {"ci": clients["ci"]}
    assert (made.secrets("ingress") / "channel.key").read_bytes() == (
        made.secrets("operator") / "channel.key"
    ).read_bytes()
    for service in SERVICES:
        assert made.settings(service).origin == module.ORIGIN


def test_secrets_are_the_owners_alone(tmp_path: Path) -> None:
    made = open_deployment(tmp_path / "data")
    found = [path for path in (made.data / "secrets").rglob("*") if path.is_file()]
    found += [made.data / "clickhouse-users.json", made.data / "oidc" / "clients.json"]
    assert len(found) > 10
    assert {str(path): oct(path.stat().st_mode & 0o777) for path in found if path.stat().st_mode & 0o777 != 0o600} == {}
    directories = [made.data, *(made.secrets(service) for service in SERVICES)]
    assert {oct(path.stat().st_mode & 0o777) for path in directories} == {"0o700"}


def test_another_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    made = open_deployment(tmp_path / "data")
    marker = made.data / "deployment.json"
    marker.write_text(marker.read_text("utf-8").replace('"format": 1', '"format": 2'), "utf-8")
    before = tree(made.data)
    with pytest.raises(SettingsError, match="made by another version") as caught:
        open_deployment(made.data)
    assert caught.value.hint == "choose another --data directory"
    assert known_ports(made.data) is None
    assert tree(made.data) == before


def test_an_unusable_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory", "utf-8")
    for use in (open_deployment, lambda data: held(data).__enter__()):
        with pytest.raises(SettingsError) as caught:
            use(tmp_path / "file" / "data")
        assert str(caught.value) == f"the data directory {tmp_path / 'file' / 'data'} cannot be used: Not a directory"
        assert "--data" in caught.value.hint


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission bits do not bind root, so the system call itself refuses."""

    def refuse(path: Path, _flags: int, _mode: int = 0o777) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        for use in (open_deployment, lambda data: held(data).__enter__()):
            with pytest.raises(SettingsError, match="cannot be used: Permission denied"):
                use(tmp_path / "data")
    assert open_deployment(tmp_path / "data").vkey


def test_a_disk_that_fills_up_is_one_sentence_and_a_second_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    sync = os.fsync

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(SettingsError, match="cannot be used: No space left on device"):
            open_deployment(tmp_path / "data")
    assert len(written) == 4
    assert open_deployment(tmp_path / "data").vkey


HOLDER = """
import sys
from pathlib import Path
from schemaseal.devstack.deployment import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_directory_is_for_one_stack_at_a_time(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(SettingsError, match=r"^a local stack runs in .* already$"), held(tmp_path):
            pass
        other.kill()
        other.wait(10)
    with held(tmp_path), pytest.raises(SettingsError), held(tmp_path):
        pass
    with held(tmp_path):
        assert (tmp_path / "up.lock").exists()


def test_free_ports_are_free_and_different() -> None:
    ports = asdict(free_ports())
    assert len(set(ports.values())) == len(ports)
    with contextlib.ExitStack() as stack:
        for port in ports.values():
            stack.enter_context(socket.create_server(("127.0.0.1", port)))


def test_free_ports_replace_only_those_that_are_taken() -> None:
    before = free_ports()
    assert free_ports(before) == before
    with socket.create_server(("127.0.0.1", before.oidc)):
        after = free_ports(before)
    assert {name for name, port in asdict(after).items() if port != getattr(before, name)} == {"oidc"}
    assert len(set(asdict(after).values())) == len(asdict(after))


def test_no_deployment_has_no_ports(tmp_path: Path) -> None:
    assert known_ports(tmp_path) is None


def test_a_services_environment_has_what_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_deployment(tmp_path / "data")
    monkeypatch.setenv("SCHEMASEAL_TOKEN", "somebody's")
    environment = made.environment("streams", SCHEMASEAL_CRASH_AT="table")
    assert set(environment) == {
        "PATH", "LANG", "TMPDIR", "PYTHONUNBUFFERED", "SCHEMASEAL_CONFIG", "SCHEMASEAL_SECRETS", "SCHEMASEAL_STATE",
        "SCHEMASEAL_CRASH_AT",
    }  # fmt: skip
    assert Path(environment["SCHEMASEAL_SECRETS"]) == made.data / "secrets" / "streams"
    shutil.rmtree(environment["TMPDIR"])
    assert made.temp("streams") == Path(environment["TMPDIR"])
    assert oct(made.temp("streams").stat().st_mode & 0o777) == "0o700"
