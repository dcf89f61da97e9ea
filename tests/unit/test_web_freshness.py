"""Tokens in headers: what a request promised is told with its answer, and what it asks for is read from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from assessmentstore.models.errors import ErrorCode, RejectedError, Rejection, StaleError
from assessmentstore.models.positions import Positions
from assessmentstore.web.errors import MIDDLEWARES
from assessmentstore.web.freshness import consistency, promise
from assessmentstore.web.reads import json_response

Client = TestClient[web.Request, web.Application]


async def send(position: int) -> None:
    promise(Positions.after(position % 2, position))


async def batch(_request: web.Request) -> web.Response:
    await asyncio.gather(*(asyncio.create_task(send(position)) for position in range(6)))
    return web.Response()


async def refused(_request: web.Request) -> web.Response:
    await send(7)
    raise RejectedError(Rejection(ErrorCode.ALREADY_EXISTS, "no"))


async def read(request: web.Request) -> web.Response:
    positions = consistency(request)
    return json_response(None if positions is None else {str(key): value for key, value in positions.needed.items()})


async def stale(_request: web.Request) -> web.Response:
    raise StaleError({3: 5, 4: 1})


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = web.Application(middlewares=MIDDLEWARES)
    for handler in (batch, refused, read, stale):
        app.router.add_get(f"/{handler.__name__}", handler)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_an_answer_tells_the_positions_of_all_its_commands_and_of_no_other_requests(client: Client) -> None:
    tokens = [(await client.get(path)).headers.get("Consistency-Token") for path in ("/batch", "/read", "/refused")]

    assert tokens == [Positions({0: 5, 1: 6}).encode(), None, Positions({1: 8}).encode()]


async def test_tokens_in_several_headers_and_with_commas_are_merged(client: Client) -> None:
    headers = [("Consistency-Token", "p1.0-3, p1.1-1"), ("Consistency-Token", "p1.0-2_2-a")]

    assert await (await client.get("/read", headers=headers)).json() == {"0": 3, "1": 1, "2": 10}
    assert await (await client.get("/read")).json() is None


@pytest.mark.parametrize("token", ["", "x", "p1.0-1,", "p1.0-1;p1.1-1", "p1.0-1 p1.1-1", "p2.0-1"])
async def test_a_token_that_is_none_is_refused(client: Client, token: str) -> None:
    answer = await client.get("/read", headers={"Consistency-Token": token})

    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_a_state_that_is_too_old_is_told_with_its_lag(client: Client) -> None:
    answer = await client.get("/stale")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    error = (await answer.json())["error"]
    assert (error["code"], error["details"]) == ("SERVICE_UNAVAILABLE", {"lag": {"3": 5, "4": 1}})
    assert "6 commands behind the Consistency-Token" in error["message"]
