"""`python -m schemaseal.streams`: one worker. Settings by SCHEMASEAL_CONFIG, secrets by SCHEMASEAL_SECRETS.

Secrets: `sealing-streams.jwk`, `signing.key`, `mask.key`. `SCHEMASEAL_WORKER` names the member (default 0).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import httpx

from schemaseal.core.clock import system_clock
from schemaseal.core.crash import crash_point
from schemaseal.core.errors import SchemasealError
from schemaseal.core.health import HealthServer
from schemaseal.core.service import run_service
from schemaseal.core.settings import Settings
from schemaseal.identity.verifier import TokenVerifier
from schemaseal.streams.app import Runtime, create_app
from schemaseal.streams.startup import build_context


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    async with httpx.AsyncClient(timeout=10) as http:
        verifier = TokenVerifier.from_settings(settings.issuers, http)
        await verifier.warm()
        runtime = Runtime(settings, build_context(settings), verifier, system_clock, crash_point=crash_point)
        app, _ = create_app(runtime)
        stopping = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stopping.set)
        health = HealthServer(
            settings.streams.host,
            settings.streams.port,
            lambda: app.settled and not app.rebalancing and not app.in_recovery,
        )
        await health.start()
        try:
            await app.start()
            crashed = asyncio.create_task(app.wait_until_stopped())
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({crashed, stopped}, return_when=asyncio.FIRST_COMPLETED)
            failed = crashed.done()
            await app.stop()
            for task in (crashed, stopped):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        finally:
            if runtime.producer is not None:
                await runtime.producer.close()
            await health.stop()
    if failed:
        raise SchemasealError("the stream worker stopped by itself; see the log above")


def main() -> int:
    return run_service("streams", run)


if __name__ == "__main__":
    sys.exit(main())
