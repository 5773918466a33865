"""Access tokens: each claim's good and bad values, known attacks on JWT, and how issuers' keys are fetched."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from schemaseal.contracts.events import Person
from schemaseal.core.errors import IdentityUnavailable
from schemaseal.core.settings import IssuerSettings
from schemaseal.identity.access_token import MAX_TOKEN, Refusal, Verified, check_access_token, peek
from schemaseal.identity.verifier import REFRESH_SECONDS, RETRY_SECONDS, TokenVerifier

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
T = int(NOW.timestamp())
ISS = "https://issuer.example"
SKEW = 30
ISSUER = IssuerSettings(
    url=ISS, audience="schemaseal", initiator_claim="initiator", machine_clients=("ci",), skew_seconds=SKEW
)
SigningKey = RSAKey | ECKey | OKPKey


@cache
def rsa() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "rsa"})


EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})


def public(*keys: SigningKey) -> list[dict[str, Any]]:
    return [dict(key.as_dict(private=False)) for key in keys]


def published() -> KeySet:
    return KeySet.import_key_set({"keys": public(rsa(), EC, ED)})


def claims(**over: Any) -> dict[str, Any]:
    """A person's token; `None` leaves a claim out."""
    base = {
        "iss": ISS,
        "sub": "alice",
        "aud": "schemaseal",
        "exp": T + 300,
        "iat": T - 10,
        "client_id": "cli",
        "auth_time": T - 60,
        "groups": ["schema-owners"],
        "jti": "j1",
    }
    return {name: value for name, value in (base | over).items() if value is not None}


def raw(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(payload: Any = None, key: SigningKey = EC, alg: str = "ES256", **header: Any) -> str:
    head = {"alg": alg, "typ": "at+jwt", "kid": key.kid} | header
    data = payload if isinstance(payload, bytes) else json.dumps(claims() if payload is None else payload).encode()
    registry = jws.JWSRegistry(strict_check_header=False, algorithms=[alg])
    return jws.serialize_compact({k: v for k, v in head.items() if v is not None}, data, key, registry=registry)


def check(text: str, issuer: IssuerSettings = ISSUER, at: datetime = NOW) -> Verified | Refusal:
    return check_access_token(text, issuer, published(), at)


def code(result: Verified | Refusal) -> str:
    return result.code if isinstance(result, Refusal) else "verified"


def verified(result: Verified | Refusal) -> Verified:
    assert isinstance(result, Verified), result
    return result


# ---------------------------------------------------------------- what is believed


def test_a_good_token_names_its_holder() -> None:
    actor = verified(check(token(claims(acr="high", amr=["pwd", "otp"], preferred_username="Alice A.")))).actor
    assert (actor.iss, actor.sub, actor.name, actor.kind) == (ISS, "alice", "Alice A.", "human")
    assert (actor.client_id, actor.groups, actor.jti, actor.kid) == ("cli", ("schema-owners",), "j1", "ec")
    assert (actor.acr, actor.amr, actor.auth_time) == ("high", ("pwd", "otp"), NOW - timedelta(seconds=60))
    assert actor.expires_at == NOW + timedelta(seconds=300)
    assert actor.key_thumbprint == EC.thumbprint()


def test_every_claim_is_accounted_for() -> None:
    payload = claims(scope="x", email="a@b.example", nbf=T)
    actor = verified(check(token(payload))).actor
    assert set(actor.verified) == {"typ", "alg", "kid", "iss", "aud", "exp", "iat", "nbf", "sub", "client_id"}
    assert set(actor.verified) | set(actor.unverified) == set(payload) | {"typ", "alg", "kid"}
    assert not set(actor.verified) & set(actor.unverified)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # RFC 9864 names it Ed25519; issuers still send EdDSA
@pytest.mark.parametrize(("alg", "kid"), [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")])
def test_algorithms_of_the_allow_list(alg: str, kid: str) -> None:
    keys: dict[str, SigningKey] = {"rsa": rsa(), "ec": EC, "ed": ED}
    key = keys[kid]
    signed = token(key=key, alg=alg)
    assert verified(check(signed)).actor.kid == kid
    narrowed = ISSUER.model_copy(update={"algorithms": tuple({"RS256", "ES256", "EdDSA"} - {alg})})
    assert code(check(signed, narrowed)) == "bad_algorithm"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_types_of_access_tokens(typ: str) -> None:
    assert code(check(token(typ=typ))) == "verified"


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"exp": T - SKEW + 1}, "verified"),
        ({"exp": T - SKEW}, "expired"),
        ({"exp": None}, "missing_claim"),
        ({"exp": str(T + 300)}, "missing_claim"),
        ({"exp": True}, "missing_claim"),
        ({"exp": -1}, "missing_claim"),
        ({"exp": 2**38}, "missing_claim"),
        ({"exp": 10**400}, "missing_claim"),
        ({"exp": float("nan")}, "missing_claim"),
        ({"exp": T + 0.5}, "verified"),
        ({"iat": None}, "missing_claim"),
        ({"iat": T + SKEW}, "verified"),
        ({"iat": T + SKEW + 1}, "not_yet_valid"),
        ({"iat": T + SKEW + 1, "nbf": T}, "not_yet_valid"),
        ({"nbf": T + SKEW}, "verified"),
        ({"nbf": T + SKEW + 1}, "not_yet_valid"),
        ({"nbf": "soon"}, "missing_claim"),
        ({"aud": "other"}, "wrong_audience"),
        ({"aud": "schemaseal2"}, "wrong_audience"),
        ({"aud": ["other", "schemaseal"]}, "verified"),
        ({"aud": ["other"]}, "wrong_audience"),
        ({"aud": {"schemaseal": 1}}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"iss": "https://other.example"}, "bad_issuer"),
        ({"iss": ISS + "/"}, "bad_issuer"),
        ({"iss": [ISS]}, "bad_issuer"),
        ({"iss": None}, "bad_issuer"),
        ({"sub": None}, "missing_claim"),
        ({"sub": ""}, "missing_claim"),
        ({"sub": 7}, "missing_claim"),
        ({"client_id": None}, "missing_claim"),
        ({"client_id": None, "azp": "cli"}, "verified"),
        ({"client_id": ["cli"]}, "missing_claim"),
        ({"nonce": "n"}, "wrong_token_type"),
        ({"at_hash": "h"}, "wrong_token_type"),
    ],
    ids=repr,
)
def test_claims(over: dict[str, Any], expected: str) -> None:
    assert code(check(token(claims(**over)))) == expected


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["a", "b"], ("a", "b")),
        ("a", ("a",)),
        (["a", 1, None, ["b"], {"c": 1}], ("a",)),
        ({"a": True}, ()),
        (7, ()),
        (True, ()),
        (None, ()),
    ],
    ids=repr,
)
def test_groups_of_any_type_give_only_texts(groups: Any, expected: tuple[str, ...]) -> None:
    assert verified(check(token(claims(groups=groups)))).actor.groups == expected


def test_claims_are_read_where_the_settings_say() -> None:
    issuer = ISSUER.model_copy(update={"groups_claim": "roles", "name_claim": "nick"})
    actor = verified(check(token(claims(roles=["r"], nick="Al", preferred_username="no")), issuer)).actor
    assert (actor.groups, actor.name) == (("r",), "Al")


# ---------------------------------------------------------------- people and machines


def test_without_a_login_time_it_is_a_service() -> None:
    assert verified(check(token(claims(auth_time=None)))).actor.kind == "service"
    assert verified(check(token(claims(auth_time="yesterday")))).actor.kind == "service"


def test_a_machine_client_is_a_service_even_with_a_login_time() -> None:
    assert verified(check(token(claims(client_id="ci")))).actor.kind == "service"


@pytest.mark.parametrize(
    ("initiator", "expected"),
    [
        ({"sub": "bob", "name": "Bob"}, Person(iss=ISS, sub="bob", name="Bob")),
        ({"sub": "bob", "iss": ISS}, Person(iss=ISS, sub="bob")),
        ({"sub": "bob", "iss": "https://other.example"}, None),
        ({"sub": ""}, None),
        ({"sub": 1}, None),
        ({"name": "Bob"}, None),
        ("bob", None),
        (["bob"], None),
        (None, None),
    ],
    ids=repr,
)
def test_the_person_behind_a_machine(initiator: Any, expected: Person | None) -> None:
    result = verified(check(token(claims(client_id="ci", sub="ci", initiator=initiator))))
    assert result.actor.kind == "service"
    assert result.initiator == expected


def test_an_initiator_counts_only_where_the_settings_name_the_claim_and_never_for_people() -> None:
    machine = token(claims(client_id="ci", initiator={"sub": "bob"}))
    assert verified(check(machine, ISSUER.model_copy(update={"initiator_claim": None}))).initiator is None
    assert verified(check(token(claims(initiator={"sub": "bob"})))).initiator is None


# ---------------------------------------------------------------- attacks (RFC 8725)


@pytest.mark.parametrize("typ", [None, "JWT", "id+jwt", "at+jwt ", "", 1])
def test_other_types_are_refused(typ: Any) -> None:
    head = {"alg": "ES256", "kid": "ec"} | ({} if typ is None else {"typ": typ})
    assert code(check(f"{raw(head)}.{raw(claims())}.{raw(b'x')}")) == "wrong_token_type"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 1, ["ES256"]], ids=repr)
def test_unsigned_tokens_are_refused(alg: Any) -> None:
    head = raw({"alg": alg, "typ": "at+jwt", "kid": "ec"})
    assert code(check(f"{head}.{raw(claims())}.{raw(b'x')}")) == "bad_algorithm"
    assert code(check(f"{head}.{raw(claims())}.")) == "malformed"


@pytest.mark.parametrize("allowed", [("RS256",), ("RS256", "HS256")], ids=repr)
def test_the_public_key_is_no_hmac_secret(allowed: tuple[str, ...]) -> None:
    """RFC 8725 §2.1; refused even where somebody put HS256 on the allow-list."""
    signing_input = f"{raw({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'rsa'})}.{raw(claims())}"
    pem = rsa().as_pem(private=False)
    forged = f"{signing_input}.{raw(hmac.digest(pem, signing_input.encode(), hashlib.sha256))}"
    issuer = ISSUER.model_copy(update={"algorithms": allowed})
    assert code(check(forged, issuer)) == ("bad_signature" if "HS256" in allowed else "bad_algorithm")


def test_the_key_must_fit_the_algorithm() -> None:
    head, body, signature = token(key=rsa(), alg="RS256").split(".")
    other = raw({"alg": "RS256", "typ": "at+jwt", "kid": "ec"})
    assert code(check(f"{other}.{body}.{signature}")) == "bad_signature"
    assert code(check(f"{head}.{body}.{signature}")) == "verified"


def test_a_key_published_for_encryption_signs_nothing() -> None:
    jwk = public(EC)[0] | {"use": "enc"}
    keys = KeySet.import_key_set({"keys": [jwk]})
    assert code(check_access_token(token(), ISSUER, keys, NOW)) == "bad_signature"


def test_keys_named_by_the_token_are_ignored() -> None:
    attacker = ECKey.generate_key("P-256", {"kid": "mine"})
    own: dict[str, Any] = {
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "jwk": public(attacker)[0],
    }
    assert code(check(token(key=attacker, **own))) == "unknown_key"
    assert code(check(token(key=attacker, kid="ec", **own))) == "bad_signature"


@pytest.mark.parametrize("kid", [None, "", "other", 1, ["ec"]], ids=repr)
def test_keys_are_found_by_their_id_alone(kid: Any) -> None:
    _, body, signature = token().split(".")
    head = {"alg": "ES256", "typ": "at+jwt"} | ({} if kid is None else {"kid": kid})
    assert code(check(f"{raw(head)}.{body}.{signature}")) == "unknown_key"


def test_extensions_are_refused() -> None:
    _, body, signature = token().split(".")
    for extra in ({"crit": ["b64"], "b64": False}, {"crit": ["exp"]}, {"b64": False}):
        head = {"alg": "ES256", "typ": "at+jwt", "kid": "ec"} | extra
        assert code(check(f"{raw(head)}.{body}.{signature}")) == "malformed"


@given(st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_is_never_believed(at: int, bit: int) -> None:
    """All but the last character, whose spare bits a lenient decoder drops."""
    altered = bytearray(token().encode())
    altered[at % (len(altered) - 1)] ^= 1 << bit
    assert isinstance(check(altered.decode("latin-1")), Refusal)


def test_signed_bytes_that_are_no_claims() -> None:
    assert code(check(token(b"[]"))) == "malformed"
    assert code(check(token(b"no json"))) == "malformed"
    assert code(check(token(b"[" * 9000))) == "malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b",
        "a.b.c",
        "opaque-token",
        "a.b.c.d.e",
        f"{raw({})}.{raw([])}.c",
        f"{raw([])}.{raw({})}.c",
        f"{raw({})}=.{raw({})}.c",
        f"{raw({})}\n.{raw({})}.c",
        f"{raw({})}.\u00e9.c",
        f"{raw(b'[' * 9000)}.{raw({})}.c",
        f"{raw({})}.{raw(b'1' * 5000)}.c",
        f"{raw({})}.{raw({'x': 'y' * MAX_TOKEN})}.c",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_jwt(text: str) -> None:
    assert code(check(text)) == "malformed"


@given(st.text(max_size=40) | st.lists(st.binary(max_size=30).map(raw), min_size=3, max_size=3).map(".".join))
def test_arbitrary_text_is_refused_and_never_raises(text: str) -> None:
    assert isinstance(check(text), Refusal)
    peek(text)


# ---------------------------------------------------------------- the issuer's keys


@dataclass
class Provider:
    """An issuer on loopback: what it answers, and which paths it was asked."""

    url: str = ""
    keys: list[Any] = field(default_factory=list)
    discovery: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, Any]:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return self.status, {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | self.discovery
        return (self.status, {"keys": self.keys}) if path == "/jwks" else (404, {})


@pytest.fixture
def provider() -> Iterator[Provider]:
    served = Provider(keys=public(EC))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, value = served.answer(self.path)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status in (301, 302):
                self.send_header("Location", served.url + "/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


class Ticks:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A verifier, its clock and its issuer."""

    provider: Provider
    verifier: TokenVerifier
    ticks: Ticks

    def token(self, key: SigningKey = EC, **header: Any) -> str:
        return token(claims(iss=self.provider.url), key, **header)

    async def code(self, text: str) -> str:
        return code(await self.verifier.verify(text, NOW))

    @property
    def fetches(self) -> int:
        return self.provider.asked.count("/.well-known/openid-configuration")


@pytest.fixture
async def desk(provider: Provider) -> AsyncIterator[Desk]:
    issuer = ISSUER.model_copy(update={"url": provider.url})
    ticks = Ticks()
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        yield Desk(provider, TokenVerifier([issuer], http, ticks), ticks)


async def test_keys_are_discovered_once(desk: Desk) -> None:
    for _ in range(3):
        assert await desk.code(desk.token()) == "verified"
    assert desk.provider.asked == ["/.well-known/openid-configuration", "/jwks"]


async def test_many_at_once_fetch_once(desk: Desk) -> None:
    codes = await asyncio.gather(*(desk.code(desk.token()) for _ in range(20)))
    assert set(codes) == {"verified"}
    assert desk.fetches == 1


async def test_warming_up_fetches_before_the_first_token(desk: Desk) -> None:
    await desk.verifier.warm()
    assert desk.fetches == 1
    assert await desk.code(desk.token()) == "verified"
    assert desk.fetches == 1


async def test_warming_up_outlives_an_issuer_that_is_down(desk: Desk) -> None:
    desk.provider.status = 503
    await desk.verifier.warm()
    with pytest.raises(IdentityUnavailable):
        await desk.verifier.verify(desk.token(), NOW)


async def test_a_foreign_issuer_is_never_asked(desk: Desk) -> None:
    for foreign in ("https://other.example", desk.provider.url + "/", 7, None):
        assert await desk.code(token(claims(iss=foreign))) == "bad_issuer"
    assert desk.provider.asked == []


async def test_nonsense_is_refused_before_anything_is_fetched(desk: Desk) -> None:
    assert await desk.code("nonsense") == "malformed"
    assert desk.provider.asked == []


async def test_addresses_in_the_token_are_not_followed(desk: Desk) -> None:
    own = {"jku": f"{desk.provider.url}/evil-jwks", "x5u": f"{desk.provider.url}/evil-cert"}
    attacker = ECKey.generate_key("P-256", {"kid": "mine"})
    assert await desk.code(desk.token(attacker, **own)) == "unknown_key"
    assert set(desk.provider.asked) == {"/.well-known/openid-configuration", "/jwks"}


async def test_a_new_key_is_found_by_one_refresh_and_the_old_one_stays_known(desk: Desk) -> None:
    assert await desk.code(desk.token()) == "verified"
    fresh = ECKey.generate_key("P-256", {"kid": "fresh"})
    desk.provider.keys = public(fresh)
    desk.ticks.now += REFRESH_SECONDS
    assert await desk.code(desk.token(fresh)) == "verified"
    assert desk.fetches == 2
    assert await desk.code(desk.token()) == "verified"
    assert desk.fetches == 2
    assert [jwk["kid"] for jwk in desk.verifier.jwks_snapshot()[desk.provider.url]] == ["ec", "fresh"]


async def test_invented_key_ids_refresh_at_most_once_per_period(desk: Desk) -> None:
    assert await desk.code(desk.token()) == "verified"
    desk.ticks.now += REFRESH_SECONDS
    codes = await asyncio.gather(*(desk.code(desk.token(kid=f"invented-{n}")) for n in range(30)))
    assert set(codes) == {"unknown_key"}
    assert desk.fetches == 2
    desk.ticks.now += REFRESH_SECONDS - 0.1
    assert await desk.code(desk.token(kid="another")) == "unknown_key"
    assert desk.fetches == 2
    desk.ticks.now += 0.1
    assert await desk.code(desk.token(kid="another")) == "unknown_key"
    assert desk.fetches == 3


async def test_an_issuer_that_fails_is_asked_sparingly_too(desk: Desk) -> None:
    desk.provider.status = 503
    failures = await asyncio.gather(
        *(desk.verifier.verify(desk.token(), NOW) for _ in range(20)), return_exceptions=True
    )
    assert all(isinstance(failure, IdentityUnavailable) for failure in failures)
    assert desk.fetches == 1
    desk.provider.status = 200
    desk.ticks.now += RETRY_SECONDS
    assert await desk.code(desk.token()) == "verified"
    assert desk.fetches == 2


async def test_known_keys_outlive_an_outage(desk: Desk) -> None:
    assert await desk.code(desk.token()) == "verified"
    desk.provider.status = 503
    desk.ticks.now += 10 * REFRESH_SECONDS
    assert await desk.code(desk.token()) == "verified"
    assert await desk.code(desk.token(kid="other")) == "unknown_key"
    assert await desk.code(desk.token(kid="other")) == "unknown_key"
    assert desk.fetches == 2


@pytest.mark.parametrize(
    "discovery",
    [{"issuer": "https://other.example"}, {"jwks_uri": 7}, {"jwks_uri": "http://["}, {"jwks_uri": "ftp://x/jwks"}],
    ids=repr,
)
async def test_a_discovery_document_that_is_wrong_is_not_used(desk: Desk, discovery: dict[str, Any]) -> None:
    desk.provider.discovery = discovery
    with pytest.raises(IdentityUnavailable, match="the keys of issuer"):
        await desk.verifier.verify(desk.token(), NOW)
    assert "/jwks" not in desk.provider.asked


async def test_redirects_of_the_issuer_are_not_followed(desk: Desk) -> None:
    desk.provider.status = 302
    with pytest.raises(IdentityUnavailable):
        await desk.verifier.verify(desk.token(), NOW)
    assert desk.provider.asked == ["/.well-known/openid-configuration"]


async def test_keys_that_are_not_understood_are_passed_over(desk: Desk) -> None:
    """RFC 7517 §5: they must not take the others with them."""
    desk.provider.keys = [
        "text",
        None,
        {"kty": "oct", "k": raw(b"secret"), "kid": "hmac"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "curve"},
        {"kty": "RSA", "kid": "half"},
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "later"},
        *public(EC),
    ]
    assert await desk.code(desk.token()) == "verified"
    assert [jwk["kid"] for jwk in desk.verifier.jwks_snapshot()[desk.provider.url]] == ["ec"]


async def test_the_snapshot_holds_no_private_parts(desk: Desk) -> None:
    desk.provider.keys = [dict(EC.as_dict(private=True))]
    assert await desk.code(desk.token()) == "verified"
    assert "d" not in desk.verifier.jwks_snapshot()[desk.provider.url][0]


async def test_a_sealed_token_is_judged_as_of_its_time(desk: Desk) -> None:
    text = desk.token()
    late = NOW + timedelta(days=400)
    assert code(await desk.verifier.verify(text, late)) == "expired"
    assert code(await desk.verifier.verify_at(text, NOW)) == "verified"
