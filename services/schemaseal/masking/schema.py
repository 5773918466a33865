"""What a value's place in a document says about it: the state that a JSON walk carries downwards.

A sensitive name above a *scalar* hides the scalar. Above a *definition* it hides only what gives a value away
(`default`, `const`, `enum`, `example`, `examples`, and every keyword not known to be harmless), so that
`"password": {"type": "string", "minLength": 8}` stays readable. Names themselves are not values: `required`,
`dependentRequired` and the keys of `properties` stay.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from schemaseal.masking.names import is_sensitive_name

_NAME_TO_SCHEMA = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_NAME_LISTS = frozenset({"dependentRequired", "dependencies"})
_NAMES = frozenset({"required", "propertyOrder"})
# Everything else under a sensitive definition is taken for a value.
_HARMLESS = """
    $schema $id $ref $anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary $comment id type
    format title description readOnly writeOnly deprecated nullable items prefixItems additionalItems unevaluatedItems
    contains minContains maxContains additionalProperties unevaluatedProperties propertyNames minProperties
    maxProperties allOf anyOf oneOf not if then else minLength maxLength pattern minimum maximum exclusiveMinimum
    exclusiveMaximum multipleOf minItems maxItems uniqueItems contentEncoding contentMediaType contentSchema
    discriminator javaType existingJavaType confluent:tags x-sensitive
"""
_KEYWORDS = frozenset(_HARMLESS.split())


class Role(Enum):
    """What a value is: anything, a map from names to schemas or to lists of names, a list of names, all values."""

    ANY = auto()
    NAMES_TO_SCHEMAS = auto()
    NAME_LISTS = auto()
    NAMES = auto()
    VALUES = auto()


class State(NamedTuple):
    """State of the value about to be read: its container's role, the entity it holds, whether a scalar is hidden."""

    role: Role = Role.ANY
    entity: str | None = None
    whole: bool = False


ROOT = State()


def below_key(state: State, key: str) -> State:
    """State of the value of `key` in an object of state `state`."""
    own = is_sensitive_name(key)
    if state.role is Role.VALUES:
        return State(Role.VALUES, own or state.entity, whole=True)
    if state.role is Role.NAME_LISTS:
        return State(Role.NAMES, own, whole=own is not None)
    if state.role is Role.NAMES_TO_SCHEMAS:
        return State(Role.ANY, own or state.entity, whole=own is not None)
    if key in _NAME_TO_SCHEMA:
        return State(Role.NAMES_TO_SCHEMAS, state.entity)
    if key in _NAME_LISTS:
        return State(Role.NAME_LISTS, state.entity)
    if key in _NAMES:
        return State(Role.NAMES, state.entity)
    if state.entity is None:
        return State(Role.ANY, own, whole=own is not None)
    if key in _KEYWORDS or key.startswith("connect."):
        return State(Role.ANY, state.entity)
    return State(Role.VALUES, own or state.entity, whole=True)


def below_index(state: State) -> State:
    """State of an element of an array of state `state`."""
    if state.role is Role.NAMES:
        return State()
    return State(Role.ANY, state.entity, state.whole) if state.role is Role.NAMES_TO_SCHEMAS else state
