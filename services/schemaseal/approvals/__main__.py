"""`python -m schemaseal.approvals`: the decisions API. Needs no secret of its own: it seals, and opens nothing."""

from __future__ import annotations

import asyncio
import logging
import sys

import httpx
import uvicorn

from schemaseal.approvals.api import Decisions, create_app
from schemaseal.contracts import codec
from schemaseal.contracts.events import ApprovalRequested, ChangeStatus, SealedPart
from schemaseal.contracts.records import Record
from schemaseal.contracts.topics import REQUESTED, STATUS
from schemaseal.core.clock import system_clock
from schemaseal.core.kafka import AckProducer, TopicTail
from schemaseal.core.service import run_service
from schemaseal.core.settings import Settings
from schemaseal.identity.verifier import TokenVerifier
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import PublicKeys


def apply(decisions: Decisions, record: Record) -> None:
    """One record into the view. What cannot be read is streams' to quarantine; here it shows nothing."""
    try:
        if record.topic == REQUESTED.name:
            decisions.view.requested(record.key or b"", codec.decode(ApprovalRequested, record.value))
        else:
            decisions.view.status(codec.decode(ChangeStatus, record.value))
    except codec.ContractError:
        logging.getLogger("schemaseal.decisions").warning("unreadable record in %s", record.topic)


async def follow(decisions: Decisions, tail: TopicTail, caught_up: asyncio.Event) -> None:
    """Keep the view current; `caught_up` once everything that stood there at start is in it."""
    left = {place for place, end in tail.ends.items() if tail.starts[place] < end}
    if not left:
        caught_up.set()
    async for batch in tail.batches():
        for record in batch:
            apply(decisions, record)
            place = (record.topic, record.partition)
            if record.offset + 1 >= tail.ends.get(place, 0):
                left.discard(place)
        if not left:
            caught_up.set()
        await decisions.notify()


async def run(settings: Settings) -> None:
    keys = PublicKeys.load(settings.public_keys)
    recipients = keys.recipients("streams", "custody")
    caught_up = asyncio.Event()

    def seal_part(data: bytes, name: str, media_type: str) -> SealedPart:
        return seal(data, recipients, name=name, media_type=media_type)

    async with httpx.AsyncClient(timeout=10) as http:
        verifier = TokenVerifier.from_settings(settings.issuers, http)
        await verifier.warm()
        producer = AckProducer(settings.kafka.bootstrap, "decisions", message_limit=settings.message_limit)
        decisions = Decisions(producer, verifier, seal_part, system_clock, ready=caught_up.is_set)
        tail = TopicTail(
            settings.kafka.bootstrap,
            [REQUESTED.name, STATUS.name],
            from_="beginning",
            message_limit=settings.message_limit,
        )
        await tail.ready()
        config = uvicorn.Config(
            create_app(decisions),
            host=settings.decisions.host,
            port=settings.decisions.port,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        following = asyncio.create_task(follow(decisions, tail, caught_up))
        serving = asyncio.create_task(server.serve())
        done, _ = await asyncio.wait({following, serving}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await tail.close()
        await producer.close()
        if following in done:
            following.result()  # a view that is no longer current must not go on answering


def main() -> int:
    return run_service("decisions", run)


if __name__ == "__main__":
    sys.exit(main())
