"""One Kafka node (KRaft, broker and controller in one process) on loopback."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from schemaseal.core.errors import SchemasealError
from schemaseal.devstack.parts import java


def server_properties(*, data: Path, port: int, controller_port: int, message_limit: int) -> str:
    """The broker's settings. Internal topics have one replica: there is one node."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "message.max.bytes": str(message_limit),
        "replica.fetch.max.bytes": str(message_limit),
        "controlled.shutdown.enable": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def prepare(jars: Path, data: Path, *, port: int, controller_port: int, message_limit: int) -> list[str]:
    """Write the settings, format the storage once, and return the command that runs the broker."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    properties = data.parent / "kafka.properties"
    text = server_properties(data=data, port=port, controller_port=controller_port, message_limit=message_limit)
    properties.write_text(text, "utf-8")
    if not (data / "meta.properties").exists():
        # May begin with a hyphen, so it is written in one word with its option.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [
            *_java(jars, "-Xmx128m", "-XX:TieredStopAtLevel=1"),
            "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise SchemasealError(f"Kafka's storage could not be formatted: {' '.join(last)}")
    return [*_java(jars, "-Xms128m", "-Xmx512m"), "kafka.Kafka", str(properties)]


def _java(jars: Path, *options: str) -> list[str]:
    return [
        str(java()),
        *options,
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-Xshare:auto",
        "-cp",
        str(jars / "*"),
    ]
