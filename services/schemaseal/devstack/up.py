"""Which processes make the local stack, in what order, and what is done between them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from confluent_kafka import KafkaException

from schemaseal.core.kafka import ensure_topics
from schemaseal.devstack import apicurio, kafka, parts
from schemaseal.devstack.deployment import REGISTRY_AUDIENCE, Deployment
from schemaseal.devstack.supervisor import Child, Probe, Supervisor, http_ready, port_in_use
from schemaseal.evidence.genesis import write_genesis

BASELINE = "genesis"


def _listening(port: int) -> Probe:
    async def probe() -> bool:
        return await asyncio.to_thread(port_in_use, port)

    return probe


def _broker(deployment: Deployment) -> Probe:
    """Ready when the broker answers and every topic is there."""
    settings = deployment.settings()

    async def probe() -> bool:
        if not port_in_use(deployment.ports.kafka):
            return False
        try:
            await asyncio.to_thread(ensure_topics, settings)
        except KafkaException:  # it listens and does not answer yet
            return False
        return True

    return probe


@dataclass(frozen=True, slots=True)
class _Builder:
    deployment: Deployment
    extra: dict[str, dict[str, str]]

    def python(
        self,
        name: str,
        module: str,
        ready: Probe,
        *arguments: str,
        after: tuple[str, ...] = (),
        ports: tuple[int, ...] = (),
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> Child:
        return Child(
            name=name,
            argv=[sys.executable, "-m", module, *arguments],
            env=self.deployment.environment(name, **self.extra.get(name, {})),
            log=self.deployment.logs / f"{name}.log",
            ready=ready,
            after=after,
            ports=ports,
            prepare=prepare,
        )

    def command(
        self, name: str, argv: list[str], ready: Probe, after: tuple[str, ...] = (), ports: tuple[int, ...] = ()
    ) -> Child:
        return Child(
            name=name,
            argv=argv,
            env=self.deployment.environment(name),
            log=self.deployment.logs / f"{name}.log",
            ready=ready,
            after=after,
            ports=ports,
        )


def children(deployment: Deployment, extra: dict[str, dict[str, str]], say: Callable[[str], None]) -> list[Child]:
    """Every process of the stack. Fetches what is missing, which may take a while the first time."""
    data, ports = deployment.data, deployment.ports
    settings = deployment.settings()
    build = _Builder(deployment, extra)
    broker = kafka.prepare(
        parts.kafka_jars(say),
        data / "kafka" / "log",
        port=ports.kafka,
        controller_port=ports.kafka_controller,
        message_limit=settings.message_limit,
    )
    registry = apicurio.command(
        parts.apicurio_home(say),
        data / "apicurio",
        port=ports.apicurio,
        management_port=ports.apicurio_management,
        issuer=deployment.issuer,
        audience=REGISTRY_AUDIENCE,
    )

    def engine(name: str, port: int) -> Child:
        return build.python(
            name,
            "schemaseal.devstack.clickhouse",
            http_ready(f"http://127.0.0.1:{port}/ping"),
            "--port", str(port), "--data", str(data / name), "--users", str(data / "clickhouse-users.json"),
            ports=(port,),
        )  # fmt: skip

    async def genesis() -> None:
        say("genesis and baseline")
        await write_genesis(deployment.settings("operator"), deployment.vkey)

    def ready(port: int) -> Probe:
        return http_ready(f"http://127.0.0.1:{port}/readyz")

    provider = http_ready(f"{deployment.issuer}/healthz")
    management = http_ready(f"http://127.0.0.1:{ports.apicurio_management}/health/ready")
    controllers = (ports.kafka, ports.kafka_controller)
    oidc = ("--port", str(ports.oidc), "--data", str(data / "oidc"))
    return [
        build.command("kafka", broker, _broker(deployment), ports=controllers),
        build.python("oidc", "schemaseal.devstack.oidc", provider, *oidc, ports=(ports.oidc,)),
        build.command("registry", registry, management, ("oidc",), (ports.apicurio, ports.apicurio_management)),
        engine("clickhouse", ports.clickhouse),
        engine("sealed", ports.sealed),
        build.python(
            "streams", "schemaseal.streams", ready(ports.streams), after=("kafka", "oidc"), ports=(ports.streams,)
        ),
        build.python(
            "applier", "schemaseal.applier", ready(ports.applier), after=("kafka", "registry"), ports=(ports.applier,)
        ),
        build.python(
            "evidence",
            "schemaseal.evidence",
            ready(ports.evidence),
            after=("kafka", "clickhouse", "sealed"),
            ports=(ports.evidence,),
        ),
        build.python(
            "decisions",
            "schemaseal.approvals",
            ready(ports.decisions),
            after=("kafka", "oidc"),
            ports=(ports.decisions,),
        ),
        build.python(
            "ingress",
            "schemaseal.ingress",
            ready(ports.ingress),
            after=("streams", "applier", "evidence", "decisions"),
            ports=(ports.ingress,),
            prepare=genesis,
        ),
    ]


def write_ready(deployment: Deployment, supervisor: Supervisor) -> None:
    """`ready.json`: for whoever started the stack as a child."""
    status = {
        "pids": supervisor.pids(),
        "started": {name: running.ready_after for name, running in supervisor.running.items()},
        "ingress": deployment.ingress_url,
        "decisions": deployment.decisions_url,
        "issuer": deployment.issuer,
    }
    path = deployment.data / "ready.json"
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(status, indent=1), "utf-8")
    beside.replace(path)
