"""`schemaseal-http/1`: golden bytes, round trips of anything a wire can carry, and named bad inputs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.contracts.http import HttpMessageError, HttpRequest, HttpResponse, header

LATIN = st.text(st.characters(max_codepoint=255), max_size=20)
HEADERS = st.lists(st.tuples(LATIN, LATIN), max_size=5).map(tuple)
BODIES = st.binary(max_size=80)
REQUESTS = st.builds(HttpRequest, LATIN, st.text(max_size=20), st.text(max_size=20), HEADERS, BODIES)
RESPONSES = st.builds(HttpResponse, st.integers(100, 599), HEADERS, BODIES)
REQUEST = {"method": "POST", "path": "/subjects/a%2Fb/versions", "query": "normalize=true", "headers": [["a", "b"]]}
RESPONSE = {"status": 409, "headers": [["content-type", "application/json"]]}


def framed(head: object, body: bytes = b"") -> bytes:
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(raw).to_bytes(4, "big") + raw + body


def test_golden_request() -> None:
    request = HttpRequest("POST", "/s%2Fa", "b=c", (("X-\xe9", "1"), ("x", "")), b"\x00body\r\n")
    head = '{"method":"POST","path":"/s%2Fa","query":"b=c","headers":[["X-\xe9","1"],["x",""]]}'.encode()
    assert request.to_bytes() == b"\x00\x00\x00" + bytes([len(head)]) + head + b"\x00body\r\n"
    assert HttpRequest.from_bytes(request.to_bytes()) == request


def test_golden_response() -> None:
    response = HttpResponse(204, (("a", "b"),))
    assert response.to_bytes() == b'\x00\x00\x00\x24{"status":204,"headers":[["a","b"]]}'
    assert HttpResponse.from_bytes(response.to_bytes()) == response


@given(REQUESTS)
def test_requests_round_trip(request_: HttpRequest) -> None:
    assert HttpRequest.from_bytes(request_.to_bytes()) == request_


@given(RESPONSES)
def test_responses_round_trip(response: HttpResponse) -> None:
    assert HttpResponse.from_bytes(response.to_bytes()) == response


@given(REQUESTS, REQUESTS)
def test_different_requests_have_different_bytes(one: HttpRequest, other: HttpRequest) -> None:
    assert (one.to_bytes() == other.to_bytes()) == (one == other)


@given(REQUESTS, BODIES)
def test_what_follows_the_head_is_body_and_nothing_else(request_: HttpRequest, more: bytes) -> None:
    read = HttpRequest.from_bytes(request_.to_bytes() + more)
    assert read == HttpRequest(request_.method, request_.path, request_.query, request_.headers, request_.body + more)


@given(REQUESTS, st.integers(0))
def test_a_head_that_was_cut_is_refused(request_: HttpRequest, cut: int) -> None:
    whole = request_.to_bytes()
    head = whole[: len(whole) - len(request_.body)]
    with pytest.raises(HttpMessageError, match="shorter than its head"):
        HttpRequest.from_bytes(head[: cut % len(head)])


def test_repeated_headers_keep_their_order_and_spelling() -> None:
    headers = (("Set-Cookie", "a"), ("set-cookie", "b"), ("SET-COOKIE", "a"))
    assert HttpResponse.from_bytes(HttpResponse(200, headers).to_bytes()).headers == headers


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "shorter than its head"),
        (b"\0\0\0", "shorter than its head"),
        (b"\xff\xff\xff\xff{}", "shorter than its head"),
        (b"\0\0\0\0", "not JSON"),
        (framed(b"{"), "not JSON"),
        (framed(b"\xff"), "not JSON"),
        (framed(b"[" * 100_000), "not JSON"),
        (framed([]), "not an object"),
        (framed(None), "not an object"),
        (framed("text"), "not an object"),
        (framed({}), "incomplete"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_frames_that_are_refused(data: bytes, says: str) -> None:
    for kind in (HttpRequest, HttpResponse):
        with pytest.raises(HttpMessageError, match=says):
            kind.from_bytes(data)


BAD_HEADERS: list[Any] = [None, "ab", ["ab"], {"a": "b"}, [["a"]], [["a", "b", "c"]], [["a", 1]], [[None, "b"]], 1, [1]]


@pytest.mark.parametrize("headers", BAD_HEADERS, ids=repr)
def test_headers_that_are_no_pairs_of_texts_are_refused(headers: Any) -> None:
    with pytest.raises(HttpMessageError):
        HttpRequest.from_bytes(framed(REQUEST | {"headers": headers}))
    with pytest.raises(HttpMessageError):
        HttpResponse.from_bytes(framed(RESPONSE | {"headers": headers}))


@pytest.mark.parametrize("name", ["method", "path", "query"])
@pytest.mark.parametrize("value", [None, 1, True, [], {}], ids=repr)
def test_texts_of_a_request_are_texts(name: str, value: Any) -> None:
    assert HttpRequest.from_bytes(framed(REQUEST)).method == "POST"
    with pytest.raises(HttpMessageError, match="wrong types"):
        HttpRequest.from_bytes(framed(REQUEST | {name: value}))


@pytest.mark.parametrize("status", [None, "200", " 2_00 ", 200.5, True, [], "x"], ids=repr)
def test_the_status_is_a_whole_number(status: Any) -> None:
    assert HttpResponse.from_bytes(framed(RESPONSE)).status == 409
    with pytest.raises(HttpMessageError, match="wrong types"):
        HttpResponse.from_bytes(framed(RESPONSE | {"status": status}))


def test_an_infinite_status_is_refused() -> None:
    with pytest.raises(HttpMessageError, match="wrong types"):
        HttpResponse.from_bytes(framed(b'{"status": Infinity, "headers": []}'))


@pytest.mark.parametrize("name", REQUEST)
def test_a_request_without_a_field_is_refused(name: str) -> None:
    with pytest.raises(HttpMessageError, match="request is incomplete"):
        HttpRequest.from_bytes(framed({key: value for key, value in REQUEST.items() if key != name}))


@pytest.mark.parametrize("name", RESPONSE)
def test_a_response_without_a_field_is_refused(name: str) -> None:
    with pytest.raises(HttpMessageError, match="response is incomplete"):
        HttpResponse.from_bytes(framed({key: value for key, value in RESPONSE.items() if key != name}))


@given(REQUESTS)
def test_one_kind_is_never_the_other(request_: HttpRequest) -> None:
    with pytest.raises(HttpMessageError):
        HttpResponse.from_bytes(request_.to_bytes())


@given(st.binary(max_size=60) | st.binary(max_size=60).map(framed))
def test_arbitrary_bytes_are_a_message_or_an_error_of_ours(data: bytes) -> None:
    for kind in (HttpRequest, HttpResponse):
        try:
            message = kind.from_bytes(data)
        except HttpMessageError:
            continue
        assert kind.from_bytes(message.to_bytes()) == message


def test_the_first_header_of_a_name_is_found_whatever_its_case() -> None:
    headers = (("Content-Type", "a"), ("content-type", "b"), ("X", ""))
    assert header(headers, "CONTENT-TYPE") == "a"
    assert header(headers, "x") == ""
    assert header(headers, "content") is None


def test_bodies_stay_out_of_repr() -> None:
    assert "secret" not in repr(HttpRequest("GET", "/", body=b"secret"))
    assert "secret" not in repr(HttpResponse(200, body=b"secret"))
