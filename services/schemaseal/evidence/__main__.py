"""`python -m schemaseal.evidence`: the sequencer. Secrets: `log.key`, `clickhouse.password`, and for
migrations `clickhouse-admin.password`."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

from schemaseal.core.clock import system_clock
from schemaseal.core.crash import crash_point
from schemaseal.core.health import HealthServer
from schemaseal.core.service import run_service
from schemaseal.core.settings import Settings, read_secret
from schemaseal.evidence.service import EvidenceService
from schemaseal.evidence.store import EvidenceStore
from schemaseal.sealing.entries import is_authentic
from schemaseal.sealing.keys import PublicKeys
from schemaseal.tlog.note import Signer


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; raises what stopped the sequencer."""
    password = read_secret(settings.secrets, "clickhouse.password").decode().strip()
    store = EvidenceStore.connect(settings.clickhouse, password)
    admin = settings.secrets / "clickhouse-admin.password"
    if admin.exists():
        store.migrate(read_secret(settings.secrets, admin.name).decode().strip())
    public = PublicKeys.load(settings.public_keys)
    signer = Signer.from_seed(settings.origin, read_secret(settings.secrets, "log.key"))
    service = EvidenceService(
        settings.kafka.bootstrap,
        settings.origin,
        store,
        signer,
        system_clock,
        message_limit=settings.message_limit,
        crash_point=crash_point,
        authentic=lambda entry: is_authentic(entry, public),
    )
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def work() -> None:
        error: BaseException | None = None
        try:
            service.run()
        except BaseException as caught:  # noqa: BLE001 - handed to the main thread, which raises it
            error = caught
        loop.call_soon_threadsafe(ended.set_result, error)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    health = HealthServer(settings.evidence.host, settings.evidence.port, lambda: service.ready)
    await health.start()
    threading.Thread(target=work, name="sequencer", daemon=True).start()
    error = await ended
    await health.stop()
    if error is not None:
        raise error


def main() -> int:
    return run_service("evidence", run)


if __name__ == "__main__":
    sys.exit(main())
