"""The schemas of the demo: an order event as a shop would really keep it, and what somebody makes of it.

The card number, e-mail address and SSN are published test values: they pass every check and belong to nobody.
"""

from __future__ import annotations

import copy
import json
from typing import Any

CARD = "4111111111111111"
EMAIL = "maria.gonzalez@shop.example"
SSN = "219-09-9999"
CONTROL = "schemaseal-planted-control-7f3a"


def order_v1() -> dict[str, Any]:
    """Over thirty properties, nested definitions, examples with an e-mail address and a card number in them."""
    money = {"$ref": "#/$defs/money"}
    address = {"$ref": "#/$defs/address"}
    text = {"type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://shop.example/schemas/order-placed.json",
        "title": "OrderPlaced",
        "description": "A customer placed an order; written once by the checkout, read by nine services.",
        "type": "object",
        "required": ["order_id", "placed_at", "customer", "lines", "payment", "totals", "currency"],
        "properties": {
            "order_id": {"type": "string", "pattern": "^ord_[0-9a-z]{12}$"},
            "placed_at": {"type": "string", "format": "date-time"},
            "channel": {"enum": ["web", "app", "store", "phone"]},
            "currency": {"type": "string", "minLength": 3, "maxLength": 3},
            "customer": {"$ref": "#/$defs/customer"},
            "billing_address": address,
            "shipping_address": address,
            "lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}},
            "payment": {"$ref": "#/$defs/payment"},
            "totals": {"$ref": "#/$defs/totals"},
            "coupon_codes": {"type": "array", "items": text, "uniqueItems": True},
            "gift_note": {"type": "string", "maxLength": 500},
            "delivery_window": {
                "type": "object",
                "properties": {
                    "from": {"type": "string", "format": "date-time"},
                    "to": {"type": "string", "format": "date-time"},
                },
            },
            "source_campaign": text,
            "risk_score": {"type": "number", "minimum": 0, "maximum": 1},
            "trace_id": text,
        },
        "$defs": {
            "money": {
                "type": "object",
                "required": ["amount", "currency"],
                "properties": {"amount": {"type": "integer"}, "currency": text},
            },
            "address": {
                "type": "object",
                "required": ["street", "city", "country"],
                "properties": {
                    "street": text,
                    "house_number": text,
                    "postcode": text,
                    "city": text,
                    "region": text,
                    "country": {"type": "string", "minLength": 2, "maxLength": 2},
                },
            },
            "customer": {
                "type": "object",
                "required": ["customer_id"],
                "properties": {
                    "customer_id": text,
                    "email": {"type": "string", "format": "email", "examples": [EMAIL]},
                    "locale": text,
                    "loyalty_tier": {"enum": ["none", "silver", "gold"]},
                    "marketing_consent": {"type": "boolean"},
                },
            },
            "line": {
                "type": "object",
                "required": ["sku", "quantity", "unit_price"],
                "properties": {
                    "sku": text,
                    "title": text,
                    "quantity": {"type": "integer", "minimum": 1},
                    "unit_price": money,
                    "tax_rate": {"type": "number"},
                    "attributes": {"type": "object", "additionalProperties": text},
                },
            },
            "payment": {
                "type": "object",
                "required": ["method"],
                "properties": {
                    "method": {"enum": ["card", "invoice", "wallet"]},
                    "card_number": {"type": "string", "examples": [CARD, "4111 1111 1111 1111"]},
                    "authorised_at": {"type": "string", "format": "date-time"},
                    "reference": text,
                },
            },
            "totals": {
                "type": "object",
                "required": ["grand_total"],
                "properties": {"net": money, "tax": money, "shipping": money, "grand_total": money},
            },
        },
        "examples": [{"order_id": "ord_7k2m9x4p1q8z", "customer": {"email": EMAIL}, "payment": {"card_number": CARD}}],
    }


def order_v2() -> dict[str, Any]:
    """What must not go through unseen: a required property is gone, and a social security number came in."""
    schema = copy.deepcopy(order_v1())
    schema["required"].remove("currency")
    del schema["properties"]["currency"]
    schema["$defs"]["customer"]["properties"]["ssn"] = {
        "type": "string",
        "description": "for the credit check",
        "examples": [SSN],
    }
    return schema


def order_v1_text() -> str:
    return json.dumps(order_v1(), indent=2)


def order_v2_text() -> str:
    return json.dumps(order_v2(), indent=2)
