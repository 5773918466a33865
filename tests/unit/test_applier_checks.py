"""What may be sent: each check of a release fails alone and by its name, and nothing unsigned names a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from schemaseal.applier.checks import Checked, Refused, ReleaseChecker
from schemaseal.contracts.events import ChangeReleased, ReleaseOrder
from schemaseal.contracts.http import HttpRequest
from schemaseal.sealing.signing import RECEIPT_DOMAIN, RELEASE_DOMAIN, Signer
from tests.unit.release_builder import REGISTER, T0, Keys, Releases

MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def releases(keys: Keys) -> Releases:
    return Releases(keys)


@pytest.fixture
def checker(keys: Keys) -> ReleaseChecker:
    return ReleaseChecker(keys.public, keys.private["applier"], {"registry": "confluent"})


def check(
    checker: ReleaseChecker, released: ChangeReleased, *, recorded_at: datetime = T0, now: datetime = T0
) -> Checked | Refused:
    return checker.check_release(released, recorded_at=recorded_at, now=now)


def test_a_right_release_is_opened_and_classified(checker: ReleaseChecker, releases: Releases) -> None:
    order = releases.order()
    checked = check(checker, releases.signed(order))
    assert isinstance(checked, Checked)
    assert checked.order == order
    assert checked.request == REGISTER
    assert (checked.operation.name, checked.operation.subject) == ("register", "orders")


# ---------------------------------------------------------------- 1. signature


def _flipped(released: ChangeReleased) -> ChangeReleased:
    first = released.signature[0] ^ 1
    return replace(released, signature=bytes([first]) + released.signature[1:])


FORGERIES: dict[str, Callable[[ChangeReleased], ChangeReleased]] = {
    "one bit of the signature": _flipped,
    "no signature": lambda released: replace(released, signature=b""),
    "a signature cut short": lambda released: replace(released, signature=released.signature[:-1]),
    "other bytes under it": lambda released: replace(released, order=released.order + b"\0"),
    "a key nobody knows": lambda released: replace(released, key_id="streams/0000000000000000"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_release_is_refused_and_names_no_change(
    checker: ReleaseChecker, releases: Releases, forge: Callable[[ChangeReleased], ChangeReleased]
) -> None:
    assert check(checker, forge(releases.signed(releases.order()))) == Refused("bad_signature")


def test_a_signer_other_than_streams_releases_nothing(checker: ReleaseChecker, releases: Releases) -> None:
    assert check(checker, releases.signed(releases.order(), by="ingress")) == Refused("bad_signature")


def test_an_unknown_key_under_the_name_of_streams_releases_nothing(checker: ReleaseChecker, releases: Releases) -> None:
    released = releases.signed(releases.order())
    impostor = Signer("streams", b"x" * 32)
    signature = impostor.sign(RELEASE_DOMAIN, released.order)
    assert check(checker, replace(released, signature=signature)) == Refused("bad_signature")
    assert check(checker, ChangeReleased(order=released.order, key_id=impostor.key_id, signature=signature)) == Refused(
        "bad_signature"
    )


def test_a_signature_of_another_domain_releases_nothing(checker: ReleaseChecker, releases: Releases) -> None:
    assert check(checker, releases.signed(releases.order(), domain=RECEIPT_DOMAIN)) == Refused("bad_signature")


# ---------------------------------------------------------------- 2. to 5. what the order says


def test_signed_bytes_that_are_no_order(checker: ReleaseChecker, keys: Keys) -> None:
    signer = keys.signers["streams"]
    released = ChangeReleased(
        order=b"no order", key_id=signer.key_id, signature=signer.sign(RELEASE_DOMAIN, b"no order")
    )
    assert check(checker, released) == Refused("bad_order")


def _reason(checker: ReleaseChecker, releases: Releases, order: ReleaseOrder) -> str:
    """The order was authentic, so its change is named and gets an outcome."""
    refused = check(checker, releases.signed(order))
    assert isinstance(refused, Refused)
    assert refused.order == order
    assert refused.late is None
    return refused.reason


def test_a_target_that_is_not_ours(checker: ReleaseChecker, releases: Releases) -> None:
    assert _reason(checker, releases, releases.order(target="elsewhere")) == "unknown_target"


def test_a_commitment_to_other_bytes(checker: ReleaseChecker, releases: Releases) -> None:
    assert _reason(checker, releases, releases.order(commitment=b"c" * 32)) == "other_commitment"


def test_a_request_swapped_after_the_approval(checker: ReleaseChecker, releases: Releases) -> None:
    """The packet of another change, sealed correctly, under the commitment that was approved."""
    approved, other = releases.order(), releases.order(replace(REGISTER, path="/subjects/other/versions"))
    assert _reason(checker, releases, replace(approved, request=other.request)) == "other_commitment"
    relabelled = replace(other.request, commitment=approved.commitment)
    assert _reason(checker, releases, replace(approved, request=relabelled)) == "request_unreadable"


def test_a_request_not_sealed_to_the_applier(checker: ReleaseChecker, releases: Releases, keys: Keys) -> None:
    part = keys.seal_request(REGISTER.to_bytes(), "streams", "custody")
    order = releases.order(request=part, commitment=part.commitment)
    assert _reason(checker, releases, order) == "request_unreadable"


def test_sealed_bytes_that_are_no_request(checker: ReleaseChecker, releases: Releases, keys: Keys) -> None:
    part = keys.seal_request(b"\0\0\0\xffnot a request")
    order = releases.order(request=part, commitment=part.commitment)
    assert _reason(checker, releases, order) == "request_unreadable"


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("GET", "/subjects"),
        HttpRequest("POST", "/nowhere", "", REGISTER.headers, b"{}"),
        replace(REGISTER, headers=(*REGISTER.headers, ("x-http-method-override", "DELETE"))),
        replace(REGISTER, path="/subjects/a/../orders/versions"),
    ],
    ids=["a read", "an unknown path", "a method override", "dot segments"],
)
def test_a_request_that_is_not_a_change(checker: ReleaseChecker, releases: Releases, request_: HttpRequest) -> None:
    assert _reason(checker, releases, releases.order(request_)) == "not_a_change"


def test_a_change_other_than_the_one_released(checker: ReleaseChecker, releases: Releases) -> None:
    delete = HttpRequest("DELETE", "/subjects/orders")
    assert _reason(checker, releases, releases.order(delete)) == "other_operation"


# ---------------------------------------------------------------- 6. deadline


@pytest.mark.parametrize("clock", ["broker", "ours"])
def test_the_deadline_holds_by_either_clock(checker: ReleaseChecker, releases: Releases, clock: str) -> None:
    order = releases.order()
    released = releases.signed(order)

    def at(moment: datetime) -> Checked | Refused:
        return check(checker, released, **{"recorded_at" if clock == "broker" else "now": moment})

    just_in_time = at(order.deadline - MILLISECOND)
    assert isinstance(just_in_time, Checked)
    late = at(order.deadline)
    assert isinstance(late, Refused)
    assert (late.reason, late.order) == ("lapsed", order)
    # Nothing else is wrong with it: a send of it may have been begun, and what became of that can be asked.
    assert late.late == just_in_time
