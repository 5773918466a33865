"""Sealing: who can open a part, what a commitment proves, what a signature stands for, how key files lie."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemaseal.contracts.events import SealedPart
from schemaseal.core.errors import KeyringError, SealingError
from schemaseal.sealing import box, keys, signing
from schemaseal.sealing.keys import PrivateKeys, PublicKeys
from schemaseal.sealing.signing import RECEIPT_DOMAIN, RELEASE_DOMAIN, Signer

DATA = b'{"schema": "exact \xff bytes"}\r\n'
MIB = 1024 * 1024


class Room:
    """Three recipients with a directory each, as a deployment has them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        names = ("streams", "applier", "custody")
        self.public = PublicKeys(
            {"recipients": {name: [keys.generate_recipient(name, 1, root / name)] for name in names}, "signers": {}}
        )
        self.private = {name: PrivateKeys.load(root / name) for name in names}

    def seal(self, data: bytes, *names: str, **over: Any) -> SealedPart:
        return box.seal(data, self.public.recipients(*names), name="request", media_type="text/x", **over)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(tmp_path_factory.mktemp("keys"))


# ---------------------------------------------------------------- boxes


def test_every_recipient_opens_it_and_nobody_else(room: Room) -> None:
    part = room.seal(DATA, "streams", "custody")
    assert box.open_sealed(part, room.private["streams"]) == DATA
    assert box.open_sealed(part, room.private["custody"]) == DATA
    assert box.key_ids(part) == ["streams/1", "custody/1"]
    assert (part.name, part.media_type, part.size) == ("request", "text/x", len(DATA))
    with pytest.raises(SealingError, match="part request is not sealed to any key held here"):
        box.open_sealed(part, room.private["applier"])


def test_the_bytes_are_not_in_the_part(room: Room) -> None:
    part = room.seal(b"4111 1111 1111 1111", "streams")
    assert b"4111" not in part.jwe
    assert b"4111" not in part.commitment


def test_a_key_that_only_claims_the_id_does_not_open_it(room: Room, tmp_path: Path) -> None:
    keys.generate_recipient("streams", 1, tmp_path)
    impostor = PrivateKeys.load(tmp_path)
    assert "streams/1" in impostor
    with pytest.raises(SealingError, match="cannot be opened"):
        box.open_sealed(room.seal(DATA, "streams"), impostor)


def test_no_recipients_is_refused() -> None:
    with pytest.raises(SealingError, match="no recipients"):
        box.seal(DATA, [], name="request", media_type="x")


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_come_back(room: Room, data: bytes) -> None:
    part = room.seal(data, "streams")
    assert box.open_sealed(part, room.private["streams"]) == data


def test_four_mebibytes(room: Room) -> None:
    data = bytes(range(256)) * (4 * MIB // 256)
    part = room.seal(data, "streams", "applier", "custody")
    assert part.size == 4 * MIB
    assert box.open_sealed(part, room.private["applier"]) == data


# ---------------------------------------------------------------- commitments


def test_commitment_is_hmac_sha256() -> None:
    """RFC 4231 §4.3, test case 2."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert box.commitment(b"Jefe", b"what do ya want for nothing?").hex() == expected


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80), st.integers(0), st.integers(0, 7))
def test_commitment_is_of_exactly_these_bytes_and_this_salt(salt: bytes, data: bytes, at: int, bit: int) -> None:
    made = box.commitment(salt, data)
    assert made == box.commitment(salt, data)

    def flipped(value: bytes) -> bytes:
        changed = bytearray(value)
        changed[at % len(changed)] ^= 1 << bit
        return bytes(changed)

    assert box.commitment(flipped(salt), data) != made
    assert box.commitment(salt, data + b"\0") != made
    if data:
        assert box.commitment(salt, flipped(data)) != made
        assert box.commitment(salt, data[:-1]) != made


def test_every_sealing_has_its_own_salt(room: Room) -> None:
    first, second = room.seal(DATA, "streams"), room.seal(DATA, "streams")
    assert first.commitment != second.commitment
    fixed = room.seal(DATA, "streams", random=lambda size: b"s" * size)
    assert fixed.commitment == box.commitment(b"s" * 32, DATA)


def test_a_part_under_another_commitment_is_refused(room: Room) -> None:
    part, other = room.seal(DATA, "streams"), room.seal(b"other", "streams")
    for commitment in (other.commitment, b"", part.commitment[:-1]):
        with pytest.raises(SealingError, match="does not match its commitment"):
            box.open_sealed(replace(part, commitment=commitment), room.private["streams"])
    with pytest.raises(SealingError, match="does not match its commitment"):
        box.open_sealed(replace(part, jwe=other.jwe), room.private["streams"])


def test_a_jwe_too_short_for_a_salt_is_refused(room: Room) -> None:
    short = room.seal(b"", "streams", random=lambda _size: b"few")
    with pytest.raises(SealingError, match="holds no salt"):
        box.open_sealed(short, room.private["streams"])


# ---------------------------------------------------------------- tampering


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    steps = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        yield from _paths(value[step], (*path, step))


def _replaced(document: Any, path: tuple[Any, ...], value: Any) -> bytes:
    altered = copy.deepcopy(document)
    place = altered
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(altered).encode()


@pytest.mark.parametrize("value", [None, 1, "", "AAAA", [], {}, True], ids=repr)
def test_no_field_of_the_jwe_can_be_replaced(room: Room, value: object) -> None:
    part = room.seal(DATA, "streams")
    document = json.loads(part.jwe)
    for path in _paths(document):
        if path[-1] == "kty":
            continue  # the curve alone names the kind of the ephemeral key
        with pytest.raises(SealingError):
            box.open_sealed(replace(part, jwe=_replaced(document, path, value)), room.private["streams"])


@pytest.mark.parametrize("field", ["iv", "ciphertext", "tag", "protected"])
def test_fields_of_another_part_do_not_fit(room: Room, field: str) -> None:
    part = room.seal(DATA, "streams")
    donor = json.loads(room.seal(DATA, "streams").jwe) | {"protected": "eyJlbmMiOiJBMjU2R0NNIiwiemlwIjoiREVGIn0"}
    altered = _replaced(json.loads(part.jwe), (field,), donor[field])
    with pytest.raises(SealingError, match="cannot be opened"):
        box.open_sealed(replace(part, jwe=altered), room.private["streams"])


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0), byte=st.integers(0, 255))
def test_a_flipped_byte_never_gives_other_bytes(room: Room, at: int, byte: int) -> None:
    part = room.seal(DATA, "streams")
    altered = bytearray(part.jwe)
    altered[at % len(altered)] = byte
    try:
        opened = box.open_sealed(replace(part, jwe=bytes(altered)), room.private["streams"])
    except SealingError:
        return
    assert opened == DATA


@pytest.mark.parametrize(
    "jwe",
    [b"", b"null", b"[]", b"\xff", b"{}", b'{"recipients": ["x"]}', b'{"recipients": [{}]}', b"[" * 100_000],
    ids=lambda jwe: repr(jwe[:30]),
)
def test_what_is_no_jwe_is_refused(room: Room, jwe: bytes) -> None:
    part = replace(room.seal(DATA, "streams"), jwe=jwe)
    with pytest.raises(SealingError, match="not a JWE in general JSON form"):
        box.open_sealed(part, room.private["streams"])


def test_content_key_of_another_algorithm_is_refused(room: Room) -> None:
    """The allow-list holds for opening too: `dir` or a weaker wrap never gets as far as the key."""
    part = room.seal(DATA, "streams")
    for algorithm in ("dir", "ECDH-ES", "ECDH-ES+A128KW", "none"):
        altered = _replaced(json.loads(part.jwe), ("recipients", 0, "header", "alg"), algorithm)
        with pytest.raises(SealingError, match="cannot be opened"):
            box.open_sealed(replace(part, jwe=altered), room.private["streams"])


# ---------------------------------------------------------------- signatures


def _signers(*signers: Signer) -> PublicKeys:
    document: dict[str, Any] = {"recipients": {}, "signers": {}}
    for signer in signers:
        document["signers"].setdefault(signer.name, []).append({"kid": signer.key_id, "public": signer.public.hex()})
    return PublicKeys(document)


STREAMS, INGRESS, OLD_STREAMS = Signer("streams", b"1" * 32), Signer("ingress", b"2" * 32), Signer("streams", b"3" * 32)
KNOWN = _signers(OLD_STREAMS, STREAMS, INGRESS)


def test_a_signature_holds_for_its_signer_domain_and_data() -> None:
    signature = STREAMS.sign(RELEASE_DOMAIN, DATA)
    assert len(signature) == 64
    assert signature == STREAMS.sign(RELEASE_DOMAIN, DATA)
    assert signing.verify(KNOWN, "streams", STREAMS.key_id, RELEASE_DOMAIN, DATA, signature)
    assert not signing.verify(KNOWN, "streams", STREAMS.key_id, RECEIPT_DOMAIN, DATA, signature)
    assert not signing.verify(KNOWN, "streams", STREAMS.key_id, RELEASE_DOMAIN, DATA + b" ", signature)
    assert not signing.verify(KNOWN, "ingress", STREAMS.key_id, RELEASE_DOMAIN, DATA, signature)
    assert not signing.verify(KNOWN, "streams", INGRESS.key_id, RELEASE_DOMAIN, DATA, signature)
    assert not signing.verify(KNOWN, "streams", OLD_STREAMS.key_id, RELEASE_DOMAIN, DATA, signature)
    assert not signing.verify(KNOWN, "streams", "streams/unknown", RELEASE_DOMAIN, DATA, signature)


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"\0" * 64, b"x" * 65])
def test_bytes_that_are_no_signature(signature: bytes) -> None:
    assert not signing.verify(KNOWN, "streams", STREAMS.key_id, RELEASE_DOMAIN, DATA, signature)


def test_an_older_key_still_verifies() -> None:
    signature = OLD_STREAMS.sign(RECEIPT_DOMAIN, DATA)
    assert signing.verify(KNOWN, "streams", OLD_STREAMS.key_id, RECEIPT_DOMAIN, DATA, signature)


def test_text_moved_between_domain_and_data_is_another_message() -> None:
    assert STREAMS.sign(b"a", b"bc") != STREAMS.sign(b"ab", b"c")


def test_a_seed_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(KeyringError, match="not a 32-byte Ed25519 seed"):
        Signer.load("streams", path)


# ---------------------------------------------------------------- key files


def test_key_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    public = keys.generate_recipient("streams", 7, tmp_path / "own")
    seed = keys.generate_seed(tmp_path / "own" / "signing.key")
    assert "d" not in public
    assert public["kid"] == "streams/7"
    for name in ("sealing-streams.jwk", "signing.key"):
        assert (tmp_path / "own" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "own").stat().st_mode & 0o077 == 0
    assert (tmp_path / "own" / "signing.key").read_bytes() == seed
    assert Signer.load("streams", tmp_path / "own" / "signing.key").public == Signer("streams", seed).public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_key_files_others_can_reach_are_refused(tmp_path: Path, mode: int) -> None:
    keys.generate_recipient("streams", 1, tmp_path)
    keys.generate_seed(tmp_path / "signing.key")
    for name in ("sealing-streams.jwk", "signing.key"):
        (tmp_path / name).chmod(mode)
    with pytest.raises(KeyringError, match="readable by others") as refused:
        PrivateKeys.load(tmp_path)
    assert refused.value.hint.startswith("chmod 600")
    with pytest.raises(KeyringError, match="readable by others"):
        Signer.load("streams", tmp_path / "signing.key")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    seed = keys.generate_seed(tmp_path / "signing.key")
    with pytest.raises(FileExistsError):
        keys.generate_seed(tmp_path / "signing.key")
    assert (tmp_path / "signing.key").read_bytes() == seed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"kty": "RSA"}',
        '{"kty": "OKP", "crv": "X25519"}',
        '{"kty": "OKP", "crv": "X", "x": ""}',
    ],
)
def test_malformed_key_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sealing-streams.jwk"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    with pytest.raises(KeyringError, match=r"key file sealing-streams\.jwk is malformed"):
        PrivateKeys.load(tmp_path)


@pytest.mark.parametrize("missing", ["d", "kid"])
def test_a_key_file_without_private_half_or_id_is_refused(tmp_path: Path, missing: str) -> None:
    keys.generate_recipient("streams", 1, tmp_path)
    path = tmp_path / "sealing-streams.jwk"
    jwk = json.loads(path.read_bytes())
    del jwk[missing]
    path.write_text(json.dumps(jwk), "utf-8")
    with pytest.raises(KeyringError, match="no private key with an id"):
        PrivateKeys.load(tmp_path)


def test_the_last_public_key_is_in_force_and_the_older_one_opens_old_parts(tmp_path: Path) -> None:
    old, new = (keys.generate_recipient("streams", epoch, tmp_path / str(epoch)) for epoch in (1, 2))
    before = PublicKeys({"recipients": {"streams": [old]}, "signers": {}}).recipients("streams")
    after = PublicKeys({"recipients": {"streams": [old, new]}, "signers": {}}).recipients("streams")
    assert [(r.name, r.kid) for r in (*before, *after)] == [("streams", "streams/1"), ("streams", "streams/2")]
    part = box.seal(DATA, after, name="request", media_type="x")
    assert box.open_sealed(part, PrivateKeys.load(tmp_path / "2")) == DATA
    with pytest.raises(SealingError, match="not sealed to any key"):
        box.open_sealed(part, PrivateKeys.load(tmp_path / "1"))


def test_unknown_recipients_are_refused(room: Room) -> None:
    with pytest.raises(KeyringError, match="no public key for recipient ingress"):
        room.public.recipients("streams", "ingress")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"recipients": {}},
        {"recipients": {"a": [{"kty": "OKP"}]}, "signers": {}},
        {"recipients": {}, "signers": {"a": [{"kid": "a/1", "public": "not hex"}]}},
    ],
    ids=repr,
)
def test_malformed_public_keys_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(KeyringError, match="malformed"):
        PublicKeys(document)


def test_public_key_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(KeyringError, match="cannot be read"):
        PublicKeys.load(path)
    path.write_text("{", "utf-8")
    with pytest.raises(KeyringError, match="cannot be read"):
        PublicKeys.load(path)
    path.write_text(json.dumps({"recipients": {}, "signers": {"streams": [{"kid": "k", "public": "00ff"}]}}), "utf-8")
    assert PublicKeys.load(path).signer("k") == ("streams", b"\x00\xff")


def test_private_halves_stay_out_of_repr(room: Room) -> None:
    recipient = room.public.recipients("streams")[0]
    assert repr(recipient) == "Recipient(name='streams', kid='streams/1')"
    assert "jwe" not in repr(room.seal(DATA, "streams"))
