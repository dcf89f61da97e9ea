"""One issuer of tokens for the web and the worker: its keys rotate, and both remember whom they refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from tests.harness.installation import Installation
from tests.harness.waiting import eventually
from tests.harness.web import Answer, Web, running_web
from tests.harness.worker import Cluster, Worker

REQUEST: dict[str, Any] = {"assessmentId": "a-1", "assessmentType": "compliance", "options": {}}
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("one", "two")}


class Issuer:
    """Signs tokens with one key, and publishes that key alone."""

    def __init__(self) -> None:
        self.kid = "one"

    async def keys(self, _request: web.Request) -> web.Response:
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEYS[self.kid].public_key()))
        return web.json_response({"keys": [{"kid": self.kid, **key}]})

    def token(self, **claims: Any) -> str:
        claims = {"sub": "alice", "iss": "us", "aud": "store", "exp": time.time() + 600} | claims
        return "Bearer " + jwt.encode(claims, KEYS[self.kid], "ES256", headers={"kid": self.kid})


@pytest.fixture
async def issuer(installation: Installation) -> AsyncIterator[tuple[Issuer, Installation]]:
    """The issuer, and an installation that believes nobody else."""
    made = Issuer()
    app = web.Application()
    app.router.add_get("/keys", made.keys)
    async with TestServer(app) as server:
        update = {"jwks_url": str(server.make_url("/keys")), "jwt_issuer": "us", "jwt_audience": "store"}
        settings = installation.settings.model_copy(update=update)
        yield made, Installation(settings)


async def test_keys_rotate_and_refusals_are_remembered_on_both_ports(issuer: tuple[Issuer, Installation]) -> None:
    tokens, installation = issuer
    cluster = Cluster(installation)
    worker = cluster.start()
    try:
        async with running_web(installation) as api:
            await cluster.until_owned_by(worker)
            old = tokens.token()
            created = await api.ask("POST", "/assessments", REQUEST, Authorization=old)
            assert created.status == 201
            assert (await _on(worker, api, old)).status == 200
            assert (await _on(worker, api, tokens.token(aud="shop"))).status == 401

            tokens.kid = "two"
            new = tokens.token()
            # An unknown key is asked for once in a few seconds.
            await eventually(lambda: _is(200, worker, api, new), "the worker knows the new key")
            await eventually(lambda: _is(401, worker, api, old), "the worker forgot the old key")
            assert (await _on(worker, api, tokens.token(sub="bob"))).status == 403
            assert (await _garbage(worker.port)).endswith(b'"message":"This is not a valid HTTP request"}}')

            api.process.terminate()
            await worker.stop()
    finally:
        cluster.destroy()
    async with installation.database() as database:
        kept = await database.fetch("SELECT code, user_id FROM access_refusals WHERE route LIKE '/assessments/%'")
    assert {(row["code"], row["user_id"]) for row in kept} == {("UNAUTHENTICATED", None), ("FORBIDDEN", "bob")}


async def _on(worker: Worker, api: Web, token: str) -> Answer:
    """Ask the worker's port."""
    port, api.port = api.port, worker.port
    try:
        return await api.ask("GET", "/assessments/a-1", Authorization=token)
    finally:
        api.port = port


async def _is(status: int, worker: Worker, api: Web, token: str) -> bool:
    return (await _on(worker, api, token)).status == status


async def _garbage(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"what is this\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer
