"""The savers that state machines run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from model.pair import Tiers


@pytest.fixture
def tiers(redis_url: str, postgres_url: str) -> Iterator[Tiers]:
    made = Tiers(redis_url, postgres_url)
    yield made
    made.close()
