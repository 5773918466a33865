"""`python -m schemaseal.applier`: settings by SCHEMASEAL_CONFIG, secrets by SCHEMASEAL_SECRETS.

Secrets: `sealing-applier.jwk`, `applier.token`, `target-<name>.json` of each target.
`SCHEMASEAL_INSTANCE` names this member of the consumer group (default `applier-0`): a second process under
the same name is fenced by the broker, so there is never one too many.
"""

from __future__ import annotations

import asyncio
import os
import sys

import httpx
import uvicorn

from schemaseal.applier.api import Api
from schemaseal.applier.checks import ReleaseChecker
from schemaseal.applier.consumer import ReleaseConsumer
from schemaseal.applier.credentials import load_credentials
from schemaseal.applier.journal import Journal
from schemaseal.applier.sender import Sender
from schemaseal.core.clock import system_clock
from schemaseal.core.kafka import AckProducer
from schemaseal.core.server import Server
from schemaseal.core.service import run_service
from schemaseal.core.settings import Settings, read_secret
from schemaseal.registry.confluent_target import ConfluentTarget
from schemaseal.registry.target import Wire
from schemaseal.sealing.keys import PrivateKeys, PublicKeys


def _targets(settings: Settings, http: httpx.AsyncClient) -> dict[str, ConfluentTarget]:
    targets = {}
    for target in settings.targets:
        read, write = load_credentials(settings.secrets, target.name, http, system_clock)
        timeout = settings.applier.send_timeout_seconds
        targets[target.name] = ConfluentTarget(Wire(target.url, http, read=read, write=write, timeout_seconds=timeout))
    return targets


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; raises what stopped the work otherwise."""
    public = PublicKeys.load(settings.public_keys)
    journal = Journal()
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=100)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as http:
        targets = _targets(settings, http)
        producer = AckProducer(settings.kafka.bootstrap, "applier", message_limit=settings.message_limit)
        consumer = ReleaseConsumer(
            bootstrap=settings.kafka.bootstrap,
            instance_id=os.environ.get("SCHEMASEAL_INSTANCE", "applier-0"),
            session_timeout_ms=settings.applier.session_timeout_ms,
            message_limit=settings.message_limit,
            journal=journal,
            producer=producer,
            clock=system_clock,
        )
        sender = Sender(
            checker=ReleaseChecker(
                public,
                PrivateKeys.load(settings.secrets),
                {target.name: target.profile for target in settings.targets},
            ),
            targets=targets,
            producer=producer,
            public=public,
            journal=journal,
            clock=system_clock,
            send_timeout_seconds=settings.applier.send_timeout_seconds,
            reread=consumer.reread,
        )
        api = Api(
            targets=targets,
            token=read_secret(settings.secrets, "applier.token"),
            ready=lambda: consumer.ready,
            body_limit=settings.message_limit,
        )
        server = Server(
            uvicorn.Config(
                api.app(),
                host=settings.applier.host,
                port=settings.applier.port,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
            )
        )
        try:
            await _until_first(server, consumer, sender)
        finally:
            await producer.close()


async def _until_first(server: uvicorn.Server, consumer: ReleaseConsumer, sender: Sender) -> None:
    """Serve and consume until one of them ends; a failure of either ends both."""
    serving = asyncio.create_task(server.serve())
    consuming = asyncio.create_task(consumer.run(sender))
    await asyncio.wait({serving, consuming}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    consuming.cancel()
    results = await asyncio.gather(serving, consuming, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


def main() -> int:
    return run_service("applier", run, fast_loop=True)


if __name__ == "__main__":
    sys.exit(main())
