"""The one local stack of a test run: started by the first test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack import LocalStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Real Kafka, registry, ClickHouse engine, provider and all services on free ports."""
    local = LocalStack(tmp_path_factory.mktemp("stack"))
    try:
        local.start()
        yield local
    finally:
        local.end()
