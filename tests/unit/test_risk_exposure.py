"""Findings say kind and place; what may be shown of a comparison holds no value of the payload."""

from __future__ import annotations

import json
from typing import Any

from schemaseal.devstack import orders
from schemaseal.risk import diff, findings, summarize
from schemaseal.risk.summary import MAX_SHOWN

VALUES = (orders.CARD, "4111 1111 1111 1111", orders.EMAIL, orders.SSN)


def hide(text: str) -> tuple[str, int]:
    count = sum(text.count(value) for value in VALUES)
    for value in VALUES:
        text = text.replace(value, "***")
    return text, count


def found(old: Any, new: Any) -> set[tuple[str, str]]:
    return {(finding.code, finding.pointer) for finding in findings(old, new)}


def test_only_what_is_new_is_found() -> None:
    at = "/$defs/customer/properties/ssn"
    result = found(orders.order_v1(), orders.order_v2())
    assert {("sensitive-name-added", at), ("sensitive-value-added", f"{at}/examples/0")} == result
    assert found(orders.order_v1(), orders.order_v1()) == set()
    first = found(None, orders.order_v1())
    assert ("sensitive-value-added", "/$defs/customer/properties/email/examples/0") in first
    assert ("sensitive-value-added", "/$defs/payment/properties/card_number/examples/0") in first


def test_wherever_it_stands() -> None:
    places: list[dict[str, Any]] = [
        {"description": f"write to {orders.EMAIL}"},
        {"const": orders.EMAIL},
        {"default": {"x": [orders.EMAIL]}},
        {"x-unknown": orders.EMAIL},
        {"enum": [int(orders.CARD)]},
        {"properties": {orders.EMAIL: {}}},
    ]
    for schema in places:
        assert {code for code, _ in found({}, schema)} >= {"sensitive-value-added"}, schema
    assert {code for code, _ in found({}, {"required": ["ssn"]})} == {"sensitive-name-added"}


def test_a_protection_that_goes_is_found_where_its_property_stays() -> None:
    old = {"properties": {"a": {"writeOnly": True}, "b": {"writeOnly": True}}}
    assert found(old, {"properties": {"a": {"writeOnly": False}}}) == {("annotation-removed", "/properties/a")}


def test_findings_hold_no_value() -> None:
    for finding in findings(None, orders.order_v2()):
        assert not any(value in finding.text for value in VALUES)


def test_too_large_to_search_is_itself_a_finding() -> None:
    assert "not-fully-searched" in {code for code, _ in found({}, {"enum": [0] * 200_000})}


def test_what_is_shown_is_masked() -> None:
    secret = "hunter2horse"
    old: dict[str, Any] = {"properties": {"password": {"default": "", "enum": ["", secret]}}}
    new: dict[str, Any] = {
        "properties": {
            "password": {"default": secret, "enum": [""]},
            orders.EMAIL: {"const": {"deep": [orders.SSN, int(orders.CARD)]}},
        },
        "required": [orders.EMAIL],
    }
    summary = summarize(diff(json.dumps(old), json.dumps(new)), findings(old, new), hide)
    shown = json.dumps([summary.differences, summary.findings])
    assert not [value for value in (*VALUES, secret) if value in shown]
    assert summary.hidden >= 5
    assert {"annotation-changed", "required-added"} <= {item["code"] for item in summary.differences}


def test_what_is_long_is_left_out() -> None:
    old = {"title": orders.SSN * 1000}
    summary = summarize(diff(json.dumps(old), "{}"), (), hide)
    assert summary.differences[0]["old"] == "(left out: 11002 bytes)"
    assert summary.hidden == 1
    many = {"required": [f"p{n}" for n in range(MAX_SHOWN + 7)], "type": "object"}
    summary = summarize(diff("{}", json.dumps(many)), (), hide)
    assert summary.differences[MAX_SHOWN] == {"code": "more", "count": 8}
    assert len(summary.differences) == MAX_SHOWN + 1


def test_nothing_compared_nothing_shown() -> None:
    summary = summarize(None, (), hide)
    assert (summary.differences, summary.findings, summary.hidden) == ([], [], 0)
