"""The one local stack of a test run: started by the first test that asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.stack import LocalStack

LEGACY = "legacy-value"


def register_legacy(stack: LocalStack) -> None:
    """Two versions that the registry held before anybody put a gateway in front of it."""
    for title in ("one", "two"):
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "type": "object"}
        stack.direct().register(LEGACY, json.dumps(schema))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Real Kafka, registry, ClickHouse engine, provider and all services on free ports."""
    local = LocalStack(tmp_path_factory.mktemp("stack"))
    try:
        local.start(before=lambda: register_legacy(local))
        yield local
    finally:
        local.end()
