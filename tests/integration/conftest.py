"""Fixtures for the tests of one service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from assessmentstore.settings import Settings
from assessmentstore.store.postgres import Pools, open_pools


@pytest.fixture
async def pools(settings: Settings) -> AsyncIterator[Pools]:
    """The Postgres of the test's own installation."""
    async with open_pools(settings, application="test") as opened:
        yield opened
