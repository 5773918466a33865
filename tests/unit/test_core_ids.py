"""Identifiers: what is derived twice is the same, and different lists never meet."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemaseal.core import ids

KEY = b"k" * 32
TEXTS = st.lists(st.text(max_size=8), max_size=4)


def test_new_ids_are_random_uuids() -> None:
    made = {ids.new_id() for _ in range(100)}
    assert len(made) == 100
    assert {uuid.UUID(one).version for one in made} == {4}


def test_a_derived_id_never_changes() -> None:
    """A repeat after an upgrade must still be a repeat: these are fixed for good."""
    assert ids.derived_id("genesis", "log.example/evidence") == "c68934ce-3f96-5477-a6da-052a275178c3"
    assert ids.derived_id() == "2c773b54-e754-5357-a9fd-548a3b8c63de"


def test_a_derived_id_is_a_uuid_of_version_5() -> None:
    assert uuid.UUID(ids.derived_id("a", "b")).version == 5


@given(TEXTS, TEXTS)
def test_derived_ids_differ_when_the_parts_do(one: list[str], other: list[str]) -> None:
    assert (ids.derived_id(*one) == ids.derived_id(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", ""), ("a",)),
        (("1:a",), ("a",)),
        (("a1:b",), ("a", "b")),
        (("", "x"), ("x", "")),
    ],
)
def test_moving_text_between_parts_gives_another_id(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert ids.derived_id(*one) != ids.derived_id(*other)
    assert ids.keyed_digest(KEY, *map(str.encode, one)) != ids.keyed_digest(KEY, *map(str.encode, other))


def test_keyed_digest_is_hmac_over_length_prefixed_parts() -> None:
    expected = hmac.digest(KEY, bytes(7) + b"\x02ab" + bytes(8), hashlib.sha256)
    assert ids.keyed_digest(KEY, b"ab", b"") == expected
    assert ids.keyed_digest(b"x" * 32, b"ab", b"") != expected


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_keyed_digests_differ_when_the_parts_do(one: list[bytes], other: list[bytes]) -> None:
    assert (ids.keyed_digest(KEY, *one) == ids.keyed_digest(KEY, *other)) == (one == other)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_a_subject_key_hides_its_subject(target: str, subject: str, other: str) -> None:
    key = ids.subject_key(KEY, target, subject)
    assert re.fullmatch(rb"[0-9a-f]{32}", key)
    assert key == ids.subject_key(KEY, target, subject)
    assert key != ids.subject_key(b"x" * 32, target, subject)
    assume(subject != other)
    assert key != ids.subject_key(KEY, target, other)


def test_a_subject_key_depends_on_the_target() -> None:
    assert ids.subject_key(KEY, "a", "bc") != ids.subject_key(KEY, "ab", "c")


def test_a_mask_key_id_is_short_and_says_nothing_of_the_key() -> None:
    made = ids.mask_key_id(KEY)
    assert re.fullmatch(r"M[0-9A-F]{6}", made)
    assert made == ids.mask_key_id(KEY)
    assert made != ids.mask_key_id(b"x" * 32)
    assert made[1:].lower() != hashlib.sha256(KEY).hexdigest()[:6]
