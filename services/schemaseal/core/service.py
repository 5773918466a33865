"""What every service's process does around its own work: logs, settings, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from schemaseal.core import logs
from schemaseal.core.errors import SchemasealError
from schemaseal.core.settings import Settings, load_settings

CRASHED = 70


def run_service(name: str, run: Callable[[Settings], Awaitable[None]], *, fast_loop: bool = False) -> int:
    """The exit code: 0 when it was asked to end, 1 with one sentence a failure of ours, 70 for what nobody foresaw."""
    log = logs.configure(name)

    async def work() -> None:
        await run(load_settings())

    try:
        if fast_loop:
            import uvloop

            uvloop.run(work())
        else:
            asyncio.run(work())
    except Exception as error:
        failures = _foreseen(error)
        for failure in failures:
            log.error("%s%s", failure, f" ({failure.hint})" if failure.hint else "")  # noqa: TRY400 - a sentence
        if failures:
            return 1
        log.critical("stopped", exc_info=True)
        logging.shutdown()
        return CRASHED
    return 0


def _foreseen(error: BaseException) -> list[SchemasealError]:
    """All of a failure's parts if each is one of ours; else none."""
    if isinstance(error, SchemasealError):
        return [error]
    if isinstance(error, BaseExceptionGroup):
        parts = [_foreseen(part) for part in error.exceptions]
        return [found for part in parts for found in part] if all(parts) else []
    return []
