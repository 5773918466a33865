"""Before anybody is asked: which token was shown, which headers are kept, which target is meant, how long to wait."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import OKPKey

from schemaseal.contracts.events import ChangeStatus
from schemaseal.contracts.http import Headers, HttpResponse
from schemaseal.core.settings import TargetSettings
from schemaseal.ingress import answers
from schemaseal.ingress.answers import View
from schemaseal.ingress.intake import PEER, Incoming, Prefer, Presented, below_mount, method_name, prefer, presented
from schemaseal.ingress.intake import recorded as record_request
from schemaseal.ingress.receipts import Receipts
from schemaseal.sealing.signing import Signer

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TOKEN = "eyJh.bGci-_.c2ln"


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def authorization(*values: str) -> Headers:
    return tuple(("authorization", value) for value in values)


# ---------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    "value",
    [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} ", basic(f"anybody:{TOKEN}"), basic(f":{TOKEN}")],
    ids=["bearer", "lower case", "spaces", "basic", "basic without user"],
)
def test_a_token_is_found(value: str) -> None:
    assert presented(authorization(value)) == Presented(TOKEN)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ((), "no_token"),
        ((("cookie", f"token={TOKEN}"),), "no_token"),
        (authorization(f"Digest {TOKEN}"), "no_token"),
        (authorization(TOKEN), "no_token"),
        (authorization("Bearer"), "malformed"),
        (authorization("Bearer "), "malformed"),
        (authorization(f"Bearer {TOKEN} {TOKEN}"), "malformed"),
        (authorization(f"Bearer {TOKEN},{TOKEN}"), "malformed"),
        (authorization(f"Bearer {TOKEN}\n"), "malformed"),
        (authorization(f"Bearer {TOKEN}", f"Bearer {TOKEN}"), "malformed"),
        (authorization("Basic !!!"), "malformed"),
        (authorization("Basic " + base64.b64encode(b"user:\xff").decode()), "malformed"),
        (authorization(basic("no colon")), "malformed"),
        (authorization(basic("user:")), "malformed"),
        (authorization(basic("user:a password")), "malformed"),
    ],
)
def test_what_is_not_one_token_is_none(headers: Headers, problem: str) -> None:
    assert presented(headers) == Presented(None, problem)


@given(st.text(max_size=40))
def test_a_presented_token_is_one_word_of_ascii(text: str) -> None:
    for value in (f"Bearer {text}", basic(f"user:{text}")):
        token = presented(authorization(value)).token
        assert token is None or (token in text and token.isascii() and not set(token) & set(" \t\r\n,;:\"'"))


# ---------------------------------------------------------------- headers


def test_hop_by_hop_headers_credentials_and_our_own_names_are_not_kept() -> None:
    incoming = Incoming(
        "POST",
        "/raw%2Fpath",
        "a=1",
        (
            ("host", "h"),
            ("authorization", f"Bearer {TOKEN}"),
            ("proxy-authorization", "x"),
            ("cookie", "x"),
            ("set-cookie", "x"),
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-other"),
            ("x-hop", "named by the first"),
            ("x-other", "named by the second"),
            ("keep-alive", "x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("schemaseal-peer", "forged"),
            ("schemaseal-change", "forged"),
            ("schemaseal-reason", "ticket 7"),
            ("content-type", "application/json"),
            ("x-kept", "twice"),
            ("x-kept", "over"),
        ),
        "192.0.2.1:1234",
        b"exact \xff bytes",
    )
    kept = record_request(incoming, "/path")
    assert kept.headers == (
        ("host", "h"),
        ("schemaseal-reason", "ticket 7"),
        ("content-type", "application/json"),
        ("x-kept", "twice"),
        ("x-kept", "over"),
        (PEER, "192.0.2.1:1234"),
    )
    assert (kept.method, kept.path, kept.query, kept.body) == ("POST", "/path", "a=1", b"exact \xff bytes")


def test_a_made_up_method_does_not_stand_in_clear() -> None:
    assert method_name("DELETE") == "DELETE"
    assert method_name("delete") == "other"
    assert method_name("4111111111111111") == "other"


# ---------------------------------------------------------------- mounts


TARGETS = tuple(
    TargetSettings(name=name, url="http://unused.test", mount=mount)
    for name, mount in (("root", ""), ("team", "/team"), ("deep", "/team/deep/"))
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/subjects", ("root", "/subjects")),
        ("/team/subjects", ("team", "/subjects")),
        ("/team", ("team", "/")),
        ("/team/", ("team", "/")),
        ("/teams/subjects", ("root", "/teams/subjects")),
        ("/team/deep/subjects/a%2Fb", ("deep", "/subjects/a%2Fb")),
        ("/team/deeper", ("team", "/deeper")),
        ("/TEAM/subjects", ("root", "/TEAM/subjects")),
        ("/te%61m/subjects", ("root", "/te%61m/subjects")),
    ],
)
def test_the_longest_mount_counts_and_only_whole_segments(path: str, expected: tuple[str, str]) -> None:
    placed = below_mount(TARGETS, path)
    assert placed is not None
    assert (placed[0].name, placed[1]) == expected


def test_a_path_below_no_mount_is_nowhere() -> None:
    assert below_mount(TARGETS[1:], "/subjects") is None
    assert below_mount(TARGETS[1:], "*") is None


# ---------------------------------------------------------------- Prefer


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Prefer(30, respond_async=False)),
        (["wait=5"], Prefer(5, respond_async=False)),
        (["Wait = 5"], Prefer(5, respond_async=False)),
        (['wait="5"'], Prefer(5, respond_async=False)),
        (["wait=0"], Prefer(0, respond_async=False)),
        (["wait=100000"], Prefer(60, respond_async=False)),
        (["wait=-1"], Prefer(30, respond_async=False)),
        (["wait=1e9"], Prefer(30, respond_async=False)),
        (["wait=9999999"], Prefer(30, respond_async=False)),
        (["wait=٣"], Prefer(30, respond_async=False)),
        (["respond-async"], Prefer(0, respond_async=True)),
        (["respond-async, wait=5"], Prefer(5, respond_async=True)),
        (["respond-async", "wait=5"], Prefer(5, respond_async=True)),
        (["wait=5; q=1, wait=6"], Prefer(5, respond_async=False)),
        (["return=minimal"], Prefer(30, respond_async=False)),
    ],
)
def test_how_long_to_wait(values: list[str], expected: Prefer) -> None:
    headers = tuple(("prefer", value) for value in values)
    assert prefer(headers, default=30, longest=60) == expected


def test_the_default_is_capped_too() -> None:
    assert prefer((), default=30, longest=10).wait == 10


# ---------------------------------------------------------------- answers


def ended(state: str, **over: str) -> ChangeStatus:
    return ChangeStatus(change_id="c1", state=state, at=T0, **over)  # type: ignore[arg-type]


VIEW = View("confluent", "https://seal.test/")


@pytest.mark.parametrize("state", sorted(answers.FINAL))
def test_no_end_without_the_targets_answer_is_retried_or_taken_for_success(state: str) -> None:
    """Confluent's clients retry 408, 429 and 5xx, and take every 2xx for success."""
    answer = answers.final_answer(ended(state, reason="ticket 7"), None, VIEW)
    assert answer.status in (403, 424)
    document = json.loads(answer.body)
    assert set(document) == {"error_code", "message"}
    assert document["error_code"] // 100 == answer.status
    assert document["message"].startswith("Change c1 ")
    assert "ticket 7" in document["message"]


def test_every_end_has_a_code_of_its_own() -> None:
    codes = {json.loads(answers.final_answer(ended(s), None, VIEW).body)["error_code"] for s in answers.FINAL}
    assert len(codes) == len(answers.FINAL)


@pytest.mark.parametrize("state", ["applied", "failed"])
def test_the_targets_own_answer_is_passed_on_with_the_headers_a_client_may_see(state: str) -> None:
    own = HttpResponse(
        409, (("Content-Type", "application/json"), ("Set-Cookie", "x"), ("Server", "x"), ("Location", "x")), b"{}"
    )
    answer = answers.final_answer(ended(state), own, VIEW)
    assert (answer.status, answer.headers, answer.body) == (409, (("content-type", "application/json"),), b"{}")


def test_a_redirect_and_an_answer_to_what_did_not_happen_are_not_passed_on() -> None:
    redirect = HttpResponse(302, (("location", "http://elsewhere.test"),))
    assert answers.final_answer(ended("failed"), redirect, VIEW).status == 424
    assert answers.final_answer(ended("rejected"), HttpResponse(200, (), b"{}"), VIEW).status == 403


def test_a_held_change_says_what_it_waits_for() -> None:
    status = ChangeStatus(
        change_id="c1",
        state="pending",
        at=T0,
        rule="r1",
        required=2,
        approvals=1,
        groups=("owners", "leads"),
        expires_at=T0 + timedelta(hours=1),
    )
    answer = answers.waiting_answer("c1", status, VIEW, respond_async=False)
    document = json.loads(answer.body)
    assert (answer.status, document["error_code"]) == (423, 42300)
    for part in ("c1", "1 of 2", "owners or leads", "r1", "2026-11-23T10:00:00", "https://seal.test/changes/c1"):
        assert part in document["message"]


def test_a_client_that_asked_for_it_gets_202_and_where_to_look() -> None:
    answer = answers.waiting_answer("c1", None, VIEW, respond_async=True)
    headers = dict(answer.headers)
    assert answer.status == 202
    assert headers["location"] == "/schemaseal/v1/changes/c1"
    assert headers["preference-applied"] == "respond-async"
    assert json.loads(answer.body)["state"] == "received"


@pytest.mark.parametrize(
    ("status", "reason", "challenge"),
    [
        (401, "no_token", 'Bearer realm="schemaseal"'),
        (401, "expired", 'Bearer realm="schemaseal", error="invalid_token"'),
        (403, "unknown_path", None),
    ],
)
def test_a_denial_challenges_as_rfc_6750_says(status: int, reason: str, challenge: str | None) -> None:
    answer = answers.denial("confluent", status, reason)
    assert dict(answer.headers).get("www-authenticate") == challenge
    assert reason in json.loads(answer.body)["message"]


# ---------------------------------------------------------------- receipts


def test_a_receipt_verifies_with_the_public_key_and_with_no_other() -> None:
    signer = Signer("ingress", b"i" * 32)
    compact = Receipts(signer).receipt("id-1", b"\x01\xff", T0, "registry")

    def jwk(public: bytes) -> OKPKey:
        x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
        return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})

    opened = jws.deserialize_compact(compact, jwk(signer.public), algorithms=["Ed25519"])
    assert opened.headers() == {"alg": "Ed25519", "kid": signer.key_id, "typ": "schemaseal-receipt"}
    assert json.loads(opened.payload) == {
        "id": "id-1",
        "commitment": "01ff",
        "at": "2026-11-23T09:00:00.000Z",
        "target": "registry",
    }
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(compact, jwk(Signer("ingress", b"x" * 32).public), algorithms=["Ed25519"])
    head, payload, signature = compact.split(".")
    other = base64.urlsafe_b64encode(opened.payload.replace(b"id-1", b"id-2")).rstrip(b"=").decode()
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(f"{head}.{other}.{signature}", jwk(signer.public), algorithms=["Ed25519"])
    assert payload != other
