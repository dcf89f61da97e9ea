"""Several writes in one statement."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest
from asyncpg.protocol import protocol

from assessmentstore.store.postgres import Pools, UnstorableError, postgres_errors
from assessmentstore.store.search import SearchRow, search_writes
from assessmentstore.store.writes import Write, write_together

_WORDS = Write("learn_words", [["anchor", "beacon"]])


async def test_each_write_has_its_own_parameters_and_its_own_count(pools: Pools) -> None:
    async with pools.write.acquire() as connection:
        offsets = Write("name_producer", ["no such topic", "a producer"])

        counts = await write_together(connection, [_WORDS, offsets])
        again = await write_together(connection, [offsets, _WORDS])
        words = await connection.fetch("SELECT word FROM search_vocabulary ORDER BY word")

    assert counts == {"learn_words": 2, "name_producer": 0}
    assert again == {"learn_words": 0, "name_producer": 0}
    assert [row["word"] for row in words] == ["anchor", "beacon"]


async def test_nothing_is_written_where_one_of_them_is_refused(pools: Pools) -> None:
    orphan = Write("insert_metrics", [["nobody"], [Decimal(1)], [datetime(2026, 1, 1, tzinfo=UTC)]])
    async with pools.write.acquire() as connection:
        with pytest.raises(UnstorableError), postgres_errors():
            await write_together(connection, [_WORDS, orphan])

        assert await connection.fetchval("SELECT count(*) FROM search_vocabulary") == 0


async def test_arrays_are_told_by_their_class_and_by_no_abstract_one(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg asks what `store/postgres.py` put in the place of the abstract class."""
    same = "SELECT $1::text[]"
    async with pools.write.acquire() as connection:
        for array in (["a", None, "b"], ("a", None, "b"), [], [["a"], ["b"]]):
            assert await connection.fetchval(same, array) == [*array]
        assert await connection.fetchval(same, {"a"}) == ["a"]

        monkeypatch.setattr(protocol, "IterableABC", ())
        with pytest.raises(asyncpg.DataError, match="a sized iterable container expected"):
            await connection.fetchval(same, ["a"])


async def test_no_writes_are_no_statement(pools: Pools) -> None:
    async with pools.write.acquire() as connection:
        assert await write_together(connection, search_writes(list[SearchRow]())) == {}
