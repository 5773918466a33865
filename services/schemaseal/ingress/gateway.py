"""One request from arrival to answer. The order here is the promise:

1. size; 2. who; 3. where and what; 4. refused → recorded → told; read → asked → recorded → answered;
repeated registration → recorded → answered; change → recorded → held → answered.
Nothing leaves for a target and no content is returned before the record of it is acknowledged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemaseal.contracts.events import ChangeStatus
from schemaseal.contracts.http import HttpMessageError, HttpRequest, HttpResponse
from schemaseal.core.clock import Clock
from schemaseal.core.errors import IdentityUnavailable, NotRecorded, SealingError, TargetUnavailable
from schemaseal.core.ids import new_id
from schemaseal.core.settings import TargetSettings
from schemaseal.identity.verifier import Refusal, Verified
from schemaseal.ingress import answers, intake
from schemaseal.ingress.answers import View
from schemaseal.ingress.applier_client import Start
from schemaseal.ingress.denials import Denials
from schemaseal.ingress.hub import StatusHub
from schemaseal.ingress.intake import Incoming
from schemaseal.ingress.receipts import Receipts
from schemaseal.ingress.recording import Recorder, Who
from schemaseal.registry.classify import classify
from schemaseal.registry.dialect import to_client
from schemaseal.registry.operation import Operation, Unclassified
from schemaseal.sealing.box import open_sealed
from schemaseal.sealing.keys import PrivateKeys

CHANGES_PATH = "/schemaseal/v1/changes/"
_GRACE_SECONDS = 15.0


class Verifier(Protocol):
    """`identity.TokenVerifier`: a refusal is a value; raises `IdentityUnavailable`."""

    async def verify(self, token: str, now: datetime) -> Verified | Refusal: ...


class Applier(Protocol):
    """`ApplierClient`. Both raise `TargetUnavailable`."""

    async def read(self, target: str, request: HttpRequest) -> HttpResponse: ...
    async def start(self, target: str, request: HttpRequest) -> Start: ...


@dataclass(frozen=True, slots=True)
class Site:
    """What ingress serves and how long it holds (seconds)."""

    targets: tuple[TargetSettings, ...]
    hold_default: float
    hold_max: float
    page_url: str = ""
    grace: float = _GRACE_SECONDS


class Gateway:
    """`answer` never raises for anything a client does; every path through it ends in a recorded answer."""

    def __init__(
        self,
        *,
        site: Site,
        verifier: Verifier,
        applier: Applier,
        recorder: Recorder,
        hub: StatusHub,
        receipts: Receipts,
        keys: PrivateKeys,
        clock: Clock,
        new_id: Callable[[], str] = new_id,
        denial_rate: int = 50,
    ) -> None:
        self._site, self._verifier, self._applier = site, verifier, applier
        self._recorder, self._hub, self._receipts = recorder, hub, receipts
        self._keys, self._clock, self._new_id = keys, clock, new_id
        self._denials = Denials(self._count_denials, rate=denial_rate)
        self._profile = site.targets[0].profile

    async def answer(self, incoming: Incoming, *, too_large: bool = False) -> HttpResponse:
        """The answer to one request; `too_large`: its body went over the limit and was not kept."""
        try:
            return await self._answer(incoming, too_large=too_large)
        except NotRecorded:
            return answers.denial(self._profile, 503, "not_recorded")

    async def _answer(self, incoming: Incoming, *, too_large: bool) -> HttpResponse:
        if too_large:
            return await self._deny(incoming, 413, "too_large")
        who = await self._identify(incoming)
        if isinstance(who, HttpResponse):
            return who
        if incoming.path.startswith(CHANGES_PATH):
            return await self._status(incoming, who)
        return await self._classified(incoming, who)

    async def _classified(self, incoming: Incoming, who: Who) -> HttpResponse:
        placed = intake.below_mount(self._site.targets, incoming.path)
        if placed is None:
            return await self._deny(incoming, 403, "unknown_path", who=who)
        target, path = placed
        request = intake.recorded(incoming, path)
        operation = classify(target.profile, request)
        if isinstance(operation, Unclassified):
            return await self._deny(incoming, operation.status, operation.reason, who=who, target=target)
        if operation.kind == "read":
            return await self._read(incoming, who, target, operation, request)
        return await self._change(incoming, who, target, operation, request)

    async def _identify(self, incoming: Incoming) -> Who | HttpResponse:
        presented = intake.presented(incoming.headers)
        if presented.token is None:
            return await self._deny(incoming, 401, presented.problem or "no_token")
        try:
            result = await self._verifier.verify(presented.token, self._clock())
        except IdentityUnavailable:
            return await self._deny(incoming, 503, "identity_unavailable", token=presented.token)
        if isinstance(result, Refusal):
            return await self._deny(incoming, 401, result.code, token=presented.token)
        return Who(result.actor, result.initiator, presented.token)

    async def _read(
        self, incoming: Incoming, who: Who, target: TargetSettings, operation: Operation, request: HttpRequest
    ) -> HttpResponse:
        try:
            response = await self._applier.read(target.name, request)
        except TargetUnavailable:
            return await self._deny(incoming, 502, "target_unavailable", who=who, target=target)
        return await self._seen("read", who, target, operation, request, response)

    async def _seen(
        self,
        kind: str,
        who: Who,
        target: TargetSettings,
        operation: Operation,
        request: HttpRequest,
        response: HttpResponse,
    ) -> HttpResponse:
        """Record what was asked and answered, then answer."""
        act_id, at = self._new_id(), self._clock()
        sealed = self._recorder.seal_request(request)
        await self._recorder.act(
            act_id=act_id,
            kind=kind,
            at=at,
            facts={"operation": operation.name, "method": operation.method, "status": response.status},
            who=who,
            target=target.name,
            operation=operation,
            request=sealed,
            response=response,
        )
        receipt = self._receipts.receipt(act_id, sealed.commitment, at, target.name)
        shown = HttpResponse(response.status, to_client(response.headers), response.body)
        if 300 <= response.status < 400:
            shown = answers.denial(target.profile, 502, "target_redirects")
        return _with(shown, ("schemaseal-act", act_id), ("schemaseal-receipt", receipt))

    async def _change(
        self, incoming: Incoming, who: Who, target: TargetSettings, operation: Operation, request: HttpRequest
    ) -> HttpResponse:
        try:
            start = await self._applier.start(target.name, request)
        except TargetUnavailable:
            return await self._deny(incoming, 502, "target_unavailable", who=who, target=target)
        if start.existing is not None or start.base is None:
            existing = start.existing or answers.denial(target.profile, 502, "no_base")
            return await self._seen("existing", who, target, operation, request, existing)
        change_id, at = self._new_id(), self._clock()
        sealed = self._recorder.seal_request(request)
        wish = intake.prefer(incoming.headers, default=self._site.hold_default, longest=self._site.hold_max)
        view = View(target.profile, self._site.page_url)
        with self._hub.watch(change_id) as watch:
            await self._recorder.intercepted(
                change_id=change_id,
                at=at,
                target=target.name,
                operation=operation,
                request=request,
                sealed=sealed,
                base=start.base,
                who=who,
            )
            # From here on the change lives without us: a crash leaves it recorded, and the same call
            # again attaches to it.
            status = await watch.hold(wait=wish.wait, grace=self._site.grace)
        effective = status.change_id if status is not None else change_id
        if status is not None and status.state in answers.FINAL:
            response = answers.final_answer(status, self._opened(status), view)
        else:
            response = answers.waiting_answer(effective, status, view, respond_async=wish.respond_async)
        receipt = self._receipts.receipt(change_id, sealed.commitment, at, target.name)
        extra = [("schemaseal-change", effective), ("schemaseal-receipt", receipt)]
        if effective != change_id:
            extra.append(("schemaseal-request", change_id))
        return _with(response, *extra)

    def _opened(self, status: ChangeStatus) -> HttpResponse | None:
        if status.answer is None:
            return None
        try:
            return HttpResponse.from_bytes(open_sealed(status.answer, self._keys))
        except (SealingError, HttpMessageError):
            return None  # answered as one whose answer is lost

    async def _status(self, incoming: Incoming, who: Who) -> HttpResponse:
        """Where a change stands, for whoever is known; recorded like any read."""
        status = None
        if incoming.method == "GET":
            status = self._hub.latest(incoming.path.removeprefix(CHANGES_PATH))
        if status is None:
            return await self._deny(incoming, 404, "unknown_change", who=who)
        act_id, at = self._new_id(), self._clock()
        sealed = self._recorder.seal_request(intake.recorded(incoming, incoming.path))
        response = answers.status_document(status)
        await self._recorder.act(
            act_id=act_id,
            kind="read",
            at=at,
            facts={"operation": "change_status", "method": "GET", "status": 200},
            who=who,
            request=sealed,
            response=response,
        )
        receipt = self._receipts.receipt(act_id, sealed.commitment, at, None)
        return _with(response, ("schemaseal-act", act_id), ("schemaseal-receipt", receipt))

    async def _deny(
        self,
        incoming: Incoming,
        status: int,
        reason: str,
        *,
        who: Who | None = None,
        target: TargetSettings | None = None,
        token: str | None = None,
    ) -> HttpResponse:
        """Record the refusal, then tell it. Nothing was or will be forwarded."""
        act_id, at = self._new_id(), self._clock()
        headers: list[tuple[str, str]] = []

        async def single() -> None:
            sealed = self._recorder.seal_request(intake.recorded(incoming, incoming.path))
            await self._recorder.act(
                act_id=act_id,
                kind="denied",
                at=at,
                facts={
                    "reason_code": reason,
                    "method": intake.method_name(incoming.method),
                    "status": status,
                },
                who=who,
                target=target.name if target else None,
                request=sealed,
                presented=token,
            )
            receipt = self._receipts.receipt(act_id, sealed.commitment, at, target.name if target else None)
            headers.extend([("schemaseal-act", act_id), ("schemaseal-receipt", receipt)])

        if who is None:
            await self._denials.record(reason, single)
        else:  # somebody known is never lost in a count
            await single()
        return _with(answers.denial(self._profile, status, reason), *headers)

    async def _count_denials(self, reasons: Counter[str]) -> None:
        await self._recorder.act(
            act_id=self._new_id(),
            kind="denied",
            at=self._clock(),
            facts={"reason_code": "aggregated", "count": reasons.total(), "reasons": dict(reasons)},
        )


def _with(response: HttpResponse, *headers: tuple[str, str]) -> HttpResponse:
    return HttpResponse(response.status, (*response.headers, *headers), response.body)
