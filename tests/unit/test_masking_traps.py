"""Masking: one named test for each trap, with the value that must go and the bytes that must stay."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from schemaseal.masking import MaskKeys, MaskRules, Span, find, find_text, is_sensitive_name, mask, mask_text, residue

RULES = MaskRules()
KEYS = MaskKeys("K1", b"k" * 32)
CARD = "4111111111111111"
JSON = "application/json"


def masked(body: str, content_type: str = JSON) -> str:
    """Masked text; checked for idempotence and residue on the way."""
    result = mask(body.encode(), content_type, RULES, KEYS)
    assert residue(result.body) == []
    assert result.manifest.stub is not None or mask(result.body, content_type, RULES, KEYS).body == result.body
    return result.body.decode()


@pytest.mark.parametrize("escape", ["\\n", "\\t", "\\b", "\\f", "\\r", "\\u0060", "\\\\n", "x", "?card="])
def test_card_behind_an_escape_or_a_letter(escape: str) -> None:
    text = f'{{"a":"{escape}{CARD}"}}'
    assert residue(text.encode())[0].entity == "CARD"
    assert masked(text).startswith(f'{{"a":"{escape}CARD~K1~')


def test_email_behind_an_escape_leaves_valid_json() -> None:
    assert json.loads(masked('{"a":"\\nbob@example.com"}'))["a"].startswith("\nEMAIL~K1~")


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_nested_number_gets_quotes_escaped_to_its_depth(depth: int) -> None:
    text = f'{{"big":123456789012345678901234567890, "d":{CARD}}}'
    for _ in range(depth):
        text = json.dumps({"schema": text})
    value = json.loads(masked(text))
    for _ in range(depth):
        value = json.loads(value["schema"])
    assert value["d"].startswith("CARD~K1~")
    assert value["big"] == 123456789012345678901234567890


@pytest.mark.parametrize(
    "card",
    [
        "4111-1111-1111-1111",
        "4111 1111 1111 1111",
        "4111\u00a01111\u20031111\u20111111",
        "4111\u200b1111\u20601111\ufeff1111",
        "４１１１１１１１１１１１１１１１",  # noqa: RUF001 - wide digits are the point
        "\u066411111111111111\u0661",
        "\\u0034111111111111111",
        "%34111111111111111",
        "4111%201111%201111%201111",
    ],
)
def test_variants_of_one_card_get_one_token(card: str) -> None:
    assert masked(f'["{card}"]') == masked(f'["{CARD}"]')


@pytest.mark.parametrize("card", ["378282246310005", "5555555555554444", "2223003122003222", "6011111111111117"])
def test_issuers(card: str) -> None:
    assert card not in masked(f'["{card}",{card}]')


@pytest.mark.parametrize(
    "text", ['"4111 1111\\t1111 1111"', '"4111 1111\\n1111 1111"', '"4111111111111112"', "[0.4111111111111111]"]
)
def test_not_a_card(text: str) -> None:
    assert masked(text) == text
    assert residue(text.encode()) == []


def test_both_of_two_equal_keys_and_each_element_by_itself() -> None:
    out = masked('{"a":"x@y.com","a":"z@y.com","l":[{"v":"x@y.com"},{"v":"plain"}]}')
    assert "@" not in out
    assert '{"v":"plain"}' in out


def test_sensitive_definition_stays_readable_and_its_values_go() -> None:
    body = (
        '{"properties":{"password":{"type":"string","minLength":8,"pattern":"^[a-z]+$","default":"hunter2",'
        '"examples":["abc",{"x":["def",12]}],"enum":[true,null,"ghi"]},"ssn":{"const":123456789}},'
        '"required":["ssn","password"],"dependentRequired":{"ssn":["password"]}}'
    )
    out = masked(body)
    assert '"type":"string","minLength":8,"pattern":"^[a-z]+$"' in out
    assert out.endswith('"required":["ssn","password"],"dependentRequired":{"ssn":["password"]}}')
    assert '"enum":[true,null,"SECRET~' in out
    assert not [word for word in ("hunter2", "abc", "def", "12,", "ghi", "123456789") if f'"{word}"' in out]


def test_plain_document_values_of_sensitive_names() -> None:
    out = masked('{"password":"hunter2","apiKey":{"value":"v1"},"ssn":123456789,"tokens":3,"token":["t1"],"cvv":true}')
    assert not [word for word in ("hunter2", "v1", "123456789", "t1") if word in out]
    assert '"tokens":3' in out
    assert '"cvv":true' in out


def test_property_name_that_is_a_value() -> None:
    result = mask(f'{{"{CARD}":{{"x":"a@b.com"}}}}'.encode(), JSON, RULES, KEYS)
    assert CARD not in result.body.decode() + repr(result.manifest)


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----",
        "Bearer abcdefghij1234567",
        "https://user:hunter2@host/",
        "password=hunter2",
        "123-45-6789",
        "bob%40example.com",
    ],
)
def test_patterns_in_json_and_text(secret: str) -> None:
    assert secret not in masked(json.dumps({"m": secret}))
    assert secret not in mask_text(secret, RULES, KEYS)[0]


def test_machine_forms_are_left() -> None:
    forms = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(300)]
    forms += ["a" * 20 + CARD + "b" * 28, "2024-01-30T12:00:00.123Z", "41111111-1111-4111-8111-111111111111"]
    forms += ["CARD~M123456~ABCDEFGH2345ABCD", "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "https://x.example/y"]
    text = json.dumps(forms)
    assert masked(text) == text
    assert residue(text.encode()) == []


def test_forged_token_is_no_hiding_place() -> None:
    assert CARD not in masked(f'["CARD~{CARD}~ABCDEFGH2345ABCD"]')


def test_form_and_query() -> None:
    out = masked("a=1&ssn=123456789&c=4111+1111+1111+1111&e=x%40y.com", "application/x-www-form-urlencoded")
    assert out.startswith("a=1&ssn=SSN~K1~")
    assert "1111" not in out
    assert "x%40" not in out


@pytest.mark.parametrize("body", [b"{", b'{"a":NaN}', b'"\xff"', b"\xef\xbb\xbf{}", b"[" * 200_000 + b"]" * 200_000])
def test_unreadable_is_a_stub_with_a_keyed_digest(body: bytes) -> None:
    stub = json.loads(mask(body, JSON, RULES, KEYS).body)
    assert stub["masked"] == "stub"
    assert stub["size"] == len(body)
    assert stub["digest"] != hashlib.sha256(body).hexdigest()
    assert len(stub["digest"]) == 64


def test_limits_types_and_empty() -> None:
    assert mask(b"", "x/y", RULES, KEYS).body == b""
    assert mask(b"x", "application/octet-stream", RULES, KEYS).manifest.stub == "content-type"
    assert mask(b"12", JSON, MaskRules(max_body_bytes=1), KEYS).manifest.stub == "size"
    assert mask(b'["a@b.com","c@d.com"]', JSON, MaskRules(max_hits=1), KEYS).manifest.stub == "hits"
    assert mask(b"{}", "application/vnd.schemaregistry.v1+json; charset=utf-8", RULES, KEYS).body == b"{}"
    assert "k" * 8 not in repr(KEYS)


@pytest.mark.parametrize(
    "unit", ["-----BEGIN PRIVATE KEY-----", "4", "\\", "eyJ", "1.1.1.1 ", "a@", "bearer ", "-", "a"]
)
def test_hostile_input_is_linear(unit: str) -> None:
    body = (unit * (300_000 // len(unit))).encode()
    start = time.perf_counter()
    residue(mask(body, "text/plain", RULES, KEYS).body)
    assert time.perf_counter() - start < 5


def test_find_gives_byte_offsets_and_names_are_recognised() -> None:
    body = f'{{"ü":"é{CARD}"}}'.encode()
    (span,) = find(body)
    assert body[span.start : span.end].decode() == CARD
    assert find_text(f"é {CARD}") == [Span(2, 18, "CARD")]
    assert is_sensitive_name("userCardNumber") == "CARD"
    assert is_sensitive_name("customer_SSN") == "SSN"
    assert is_sensitive_name("token_type") is None
