"""`python -m schemaseal.ingress`: settings by SCHEMASEAL_CONFIG, secrets by SCHEMASEAL_SECRETS.

Secrets: `channel.key`, `sealing-ingress.jwk`, `signing.key`, `applier.token`.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

import httpx
import uvicorn

from schemaseal.contracts.topics import STATUS
from schemaseal.core.clock import system_clock
from schemaseal.core.kafka import AckProducer, TopicTail
from schemaseal.core.server import Server
from schemaseal.core.service import run_service
from schemaseal.core.settings import Settings, read_secret
from schemaseal.identity.verifier import TokenVerifier
from schemaseal.ingress.applier_client import ApplierClient
from schemaseal.ingress.asgi import IngressApp
from schemaseal.ingress.gateway import Gateway, Site
from schemaseal.ingress.hub import StatusHub
from schemaseal.ingress.receipts import Receipts
from schemaseal.ingress.recording import Recorder, Versions
from schemaseal.sealing.keys import PrivateKeys, PublicKeys
from schemaseal.sealing.signing import Signer

DETECTORS = "masking/1"
_SHUTDOWN_SECONDS = 10


def _site(settings: Settings) -> Site:
    return Site(
        settings.targets,
        settings.ingress.hold_default_seconds,
        settings.ingress.hold_max_seconds,
        settings.page_url,
    )


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; raises what stopped the work otherwise."""
    limits = httpx.Limits(max_connections=500, max_keepalive_connections=100)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=10) as http:
        verifier = TokenVerifier.from_settings(settings.issuers, http)
        await verifier.warm()
        producer = AckProducer(settings.kafka.bootstrap, "ingress", message_limit=settings.message_limit)
        tail = TopicTail(settings.kafka.bootstrap, STATUS.name, message_limit=settings.message_limit)
        hub = StatusHub()
        versions = Versions(
            hashlib.sha256(settings.policy_file.read_bytes()).hexdigest(), DETECTORS, settings.mask_key_id
        )
        channel_key = read_secret(settings.secrets, "channel.key")
        applier = ApplierClient(
            http,
            settings.applier.reached_at,
            read_secret(settings.secrets, "applier.token"),
            timeout_seconds=settings.applier.send_timeout_seconds + 5,
        )
        gateway = Gateway(
            site=_site(settings),
            verifier=verifier,
            applier=applier,
            recorder=Recorder(producer, PublicKeys.load(settings.public_keys), channel_key, versions),
            hub=hub,
            receipts=Receipts(Signer.load("ingress", settings.secrets / "signing.key")),
            keys=PrivateKeys.load(settings.secrets),
            clock=system_clock,
        )
        # Positioned before anything is served: no status of a change taken here can be missed.
        await tail.ready()
        following = asyncio.create_task(hub.follow(aiter(tail)))
        app = IngressApp(gateway, body_limit=settings.body_limit, ready=lambda: not following.done())
        server = Server(
            uvicorn.Config(
                app,
                host=settings.ingress.host,
                port=settings.ingress.port,
                http="httptools",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                interface="asgi3",
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        try:
            await _until_first(server, following)
        finally:
            await tail.close()
            await producer.close()


async def _until_first(server: uvicorn.Server, following: asyncio.Task[None]) -> None:
    """Serve until told to stop. Without the tail nobody could be answered: then serving ends too."""
    serving = asyncio.create_task(server.serve())
    await asyncio.wait({serving, following}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    following.cancel()
    results = await asyncio.gather(following, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


def main() -> int:
    return run_service("ingress", run, fast_loop=True)


if __name__ == "__main__":
    sys.exit(main())
