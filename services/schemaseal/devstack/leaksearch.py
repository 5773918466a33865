"""Search everything the stack wrote for values that must not be there, in every form they could hide in.

Places: all Kafka topics read back (so decompressed) and the raw segment files, every table of both
ClickHouse instances read back through the engine, and all logs, temporary and state files. Left out is
only what belongs to others: the registry's own database and the identity provider's own files.

A search that finds nothing proves nothing unless it is known to look: plant a control value first and
search for it too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import clickhouse_connect
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemaseal.devstack.deployment import Deployment

CHUNK = 8 * 1024 * 1024
OVERLAP = 64 * 1024
PLANTED = "planted-control"
NOT_OURS = ("apicurio", "oidc", "secrets")


@dataclass(frozen=True, slots=True)
class Hit:
    """A value found: which, in what form, where."""

    label: str
    form: str
    place: str


def forms(value: str) -> dict[str, bytes]:
    """Name of a form → the bytes to look for.

    Raw; JSON-escaped one to three deep (also with every character as \\uXXXX); percent-encoded; base64 at
    three alignments (the characters that do not depend on neighbours); hex; unkeyed hashes.
    """
    raw = value.encode()
    found = {"raw": raw, "hex": raw.hex().encode(), "hex upper": raw.hex().upper().encode()}
    escaped = value
    for depth in (1, 2, 3):
        escaped = json.dumps(escaped)[1:-1]
        found[f"json {depth}"] = escaped.encode()
    found["json \\u"] = "".join(f"\\u{ord(char):04x}" for char in value).encode()
    found["percent"] = urllib.parse.quote(value, safe="").encode()
    found["percent all"] = "".join(f"%{byte:02X}" for byte in raw).encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        start = -(-shift * 8 // 6)
        end = (shift + len(raw)) * 8 // 6
        inner = encoded[start:end]
        if len(inner) >= 8:
            found[f"base64 +{shift}"] = inner
            found[f"base64url +{shift}"] = inner.replace(b"+", b"-").replace(b"/", b"_")
    for name in ("md5", "sha1", "sha256", "sha512"):
        digest = hashlib.new(name, raw, usedforsecurity=False)
        found[name] = digest.hexdigest().encode()
        found[f"{name} raw"] = digest.digest()
    return found


def _in_bytes(place: str, data: bytes, needles: list[tuple[str, str, bytes]]) -> Iterator[Hit]:
    for label, form, needle in needles:
        if needle in data:
            yield Hit(label, form, place)


def _needles(values: dict[str, str]) -> list[tuple[str, str, bytes]]:
    seen: set[tuple[str, bytes]] = set()
    needles = []
    for label, value in values.items():
        for form, needle in forms(value).items():
            if (label, needle) not in seen:
                seen.add((label, needle))
                needles.append((label, form, needle))
    return needles


def kafka_places(bootstrap: str) -> Iterator[tuple[str, bytes]]:
    """Every record of every topic, internal ones too: key, value and headers."""
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=15).topics
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "leak-search",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        open_partitions = {(name, number) for name, topic in topics.items() for number in topic.partitions}
        consumer.assign([TopicPartition(name, number, 0) for name, number in open_partitions])
        while open_partitions:
            for message in consumer.consume(1000, timeout=0.2):
                error = message.error()
                place = (message.topic() or "", message.partition() or 0)
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise RuntimeError(f"topic {place[0]} cannot be searched: {error.str()}")
                    open_partitions.discard(place)
                    continue
                headers = b"".join(
                    str(name).encode() + b"=" + (value if isinstance(value, bytes) else str(value).encode())
                    for name, value in dict(message.headers() or []).items()
                )
                key = message.key()
                yield (
                    f"kafka {place[0]}/{place[1]}@{message.offset()}",
                    b"\n".join([key if isinstance(key, bytes) else b"", message.value() or b"", headers]),
                )
    finally:
        consumer.close()


def clickhouse_places(url: str, user: str, password: str) -> Iterator[tuple[str, bytes]]:
    """Every row of every table, read through the engine: names of columns do not matter here."""
    host, _, port = url.removeprefix("http://").partition(":")
    client = clickhouse_connect.get_client(host=host, port=int(port), username=user, password=password)
    try:
        rows = client.query(
            "SELECT database, name FROM system.tables WHERE database NOT IN "
            "('system', 'INFORMATION_SCHEMA', 'information_schema') AND engine NOT LIKE '%View'"
        ).result_rows
        for database, table in rows:
            data = client.raw_query(f"SELECT * FROM `{database}`.`{table}`", fmt="RowBinary")  # noqa: S608
            yield f"clickhouse {database}.{table}", data
    finally:
        client.close()


def file_places(root: Path, left_out: Iterable[str] = NOT_OURS) -> Iterator[tuple[str, bytes]]:
    """Every regular file below `root` in overlapping chunks, the first path segment filtered."""
    skip = set(left_out)
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] in skip or path.is_symlink() or not path.is_file():
            continue
        try:
            for chunk in _written(path):
                yield f"file {relative}", chunk
        except FileNotFoundError:  # a segment or merge file that was removed meanwhile
            continue


def _written(path: Path) -> Iterator[bytes]:
    """What was written of a file, in overlapping chunks. Holes of a sparse file (a broker's index files are
    almost nothing else) hold only zeros and are left out."""
    with path.open("rb") as file:
        position, end = 0, os.fstat(file.fileno()).st_size
        while position < end:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # no data after this position
                return
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            file.seek(start)
            tail = b""
            while start < position and (chunk := file.read(min(CHUNK, position - start))):
                yield tail + chunk
                tail = chunk[-OVERLAP:]
                start += len(chunk)


def plant(deployment: Deployment, value: str) -> None:
    """Put a value where the search must find it: a compressed record, a table, a file. In places of its own, so
    that neither topics nor evidence are touched."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap})
    for created in admin.create_topics([NewTopic(PLANTED, 1, 1)]).values():
        created.result(15)
    producer = Producer({"bootstrap.servers": deployment.bootstrap, "compression.type": "gzip"})
    producer.produce(PLANTED, value=f"{value * 50} and {value}".encode())
    producer.flush(15)
    password = deployment.clickhouse_password("admin")
    with clickhouse_connect.get_client(
        host="127.0.0.1", port=deployment.ports.clickhouse, username="admin", password=password
    ) as client:
        client.command("CREATE TABLE default.planted (value String) ENGINE = MergeTree ORDER BY value")
        client.command(f"INSERT INTO default.planted VALUES ('{value}')")  # noqa: S608 - our own constant
    (deployment.temp("ingress") / "planted.txt").write_text(value, "utf-8")


def search(deployment: Deployment, values: dict[str, str], control: str | None = None) -> tuple[list[Hit], int]:
    """All hits of the labelled values, and how many bytes were searched.

    `control` is a value known to be there; it is reported under the label `control`.
    """
    needles = _needles(values | ({"control": control} if control else {}))
    hits: dict[tuple[str, str], Hit] = {}
    total = 0
    password = deployment.clickhouse_password("admin")
    ports = deployment.ports
    places = (
        kafka_places(deployment.bootstrap),
        clickhouse_places(f"http://127.0.0.1:{ports.clickhouse}", "admin", password),
        clickhouse_places(f"http://127.0.0.1:{ports.sealed}", "admin", password),
        file_places(deployment.data),
    )
    for source in places:
        for place, data in source:
            total += len(data)
            for hit in _in_bytes(place, data, needles):
                hits.setdefault((hit.label, f"{hit.form} {hit.place}"), hit)
    return list(hits.values()), total
