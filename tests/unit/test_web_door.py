"""What comes to the door and is no good request, over raw sockets, and what every answer carries out."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web
from tests.harness.waiting import DEADLINE

from assessmentstore.settings import Settings, SettingsError
from assessmentstore.web import admission
from assessmentstore.web.app import build_app
from assessmentstore.web.auth import AUTHENTICATOR, Authenticator, Permission, Role, authorize, mint_token
from assessmentstore.web.bodies import read_json
from assessmentstore.web.errors import MIDDLEWARES
from assessmentstore.web.middleware import Handler
from assessmentstore.web.proxies import PROXIES, Proxies
from assessmentstore.web.server import Runner

SECRET = "a secret that is long enough for HS256"
AUTHORIZATION = {"Authorization": f"Bearer {mint_token(SECRET, 'ann', [Role.USER], timedelta(hours=1))}"}
TOKEN = f"Authorization: {AUTHORIZATION['Authorization']}\r\n".encode()
EVERYWHERE = {
    "Server": "assessmentstore",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
BODY = b'{"progress": 50, "message": "half of it"}'
LEAKS = (b"Traceback", b"aiohttp", b"Python", b".py", b"Error(", b"0x", b"secret detail")


async def _echo(request: web.Request) -> web.Response:
    authorize(request, Permission.CREATE)
    return web.json_response(await read_json(request))


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    await response.write(b"data: 1\n\n")
    return response


async def _page(_request: web.Request) -> web.Response:
    return web.Response(text="<p>", content_type="text/html", headers={"Content-Security-Policy": "default-src 'self'"})


async def _fail(_request: web.Request) -> web.Response:
    raise ZeroDivisionError("secret detail")


@web.middleware
async def _broken(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path == "/docs":
        raise ZeroDivisionError("secret detail")
    return await handler(request)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = web.Application(middlewares=[_broken, *MIDDLEWARES], client_max_size=1000)
    app[AUTHENTICATOR], app[PROXIES] = Authenticator(SECRET), Proxies("127.0.0.1")
    app.on_response_prepare.append(admission.secure)
    app.router.add_post("/assessments", _echo)
    app.router.add_get("/health", _stream)
    app.router.add_get("/", _page)
    app.router.add_get("/ready", _fail)
    app.router.add_get("/docs", _page)
    async with _running(app) as port:
        yield port


@asynccontextmanager
async def _running(app: web.Application) -> AsyncIterator[int]:
    runner = Runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def _raw(port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """The one answer to some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    body = await asyncio.wait_for(reader.readexactly(int(headers["Content-Length"])), DEADLINE)
    writer.close()
    return int(first.split()[1]), headers, body


def _has_the_headers(headers: dict[str, str]) -> bool:
    return EVERYWHERE.items() <= headers.items()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n",
        b"secret detail\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW /assessments HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /assessments HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /assessments HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /assessments HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded: 1\r\n\r\n",
    ],
)
async def test_what_is_no_request_gets_our_answer_and_learns_nothing(port: int, sent: bytes) -> None:
    status, headers, body = await _raw(port, sent)

    assert (status, orjson.loads(body)["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert headers["Content-Type"].startswith("application/json")
    assert _has_the_headers(headers)
    assert headers["Cache-Control"] == "no-store"
    assert not any(leak in body or leak in str(headers).encode() for leak in LEAKS)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"DELETE /assessments HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n", 500),
        (b"GET /ready HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n", 500),
        (b"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n", 500),
        (b"POST /assessments HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 401),
        (b"POST /assessments HTTP/1.1\r\nHost: a\r\n" + TOKEN + TOKEN + b"Content-Length: 1\r\n\r\nx", 401),
        (b"POST /assessments HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", 401),
        (b"POST /assessments HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", 417),
        (b"POST /assessments HTTP/1.1\r\nHost: a\r\n" + TOKEN + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, 413),
        (
            b"POST /assessments HTTP/1.1\r\nHost: a\r\n" + TOKEN + b"Transfer-Encoding: chunked\r\n\r\n"
            b"600\r\n" + b"x" * 0x600 + b"\r\n0\r\n\r\n",
            413,
        ),
    ],
)
async def test_what_is_refused_or_fails_gets_our_answer_and_learns_nothing(port: int, sent: bytes, status: int) -> None:
    found, headers, body = await _raw(port, sent)

    assert found == status
    assert set(orjson.loads(body)["error"]) <= {"code", "message", "details", "assessmentId", "timestamp"}
    assert _has_the_headers(headers)
    assert headers["Cache-Control"] == "no-store"
    assert not any(leak in body or leak in str(headers).encode() for leak in LEAKS)


async def _sent(port: int, content: bytes, coding: str) -> tuple[int, Any]:
    """Send a body that is compressed already, and return what it was taken for."""
    headers = AUTHORIZATION | {"Content-Encoding": coding, "Content-Type": "application/json"}
    async with ClientSession(headers=headers) as session:
        answer = await session.post(f"http://127.0.0.1:{port}/assessments", data=content)
        return answer.status, await answer.json()


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("packed", "coding"),
    [
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY), "X-GZip, identity"),
        (gzip.compress(BODY[:3]) + gzip.compress(BODY[3:]), "gzip"),
        (zlib.compress(BODY), "deflate"),
        (_deflated(BODY), "deflate"),
        (BODY, "identity"),
    ],
    ids=["gzip", "its other name", "members", "zlib", "deflate", "identity"],
)
async def test_a_body_may_come_compressed(port: int, packed: bytes, coding: str) -> None:
    assert await _sent(port, packed, coding) == (200, orjson.loads(BODY))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_that_is_cut_off_anywhere_is_refused(port: int, coding: str) -> None:
    packed = gzip.compress(BODY) if coding == "gzip" else zlib.compress(BODY)

    answers = [await _sent(port, packed[:end], coding) for end in range(1, len(packed))]

    assert {status for status, _ in answers} == {400}
    assert {answer["error"]["message"] for _, answer in answers} == {
        f"The body is cut off: its {coding} does not come to an end"
    }


@pytest.mark.parametrize(
    ("packed", "coding", "status", "message"),
    [
        (gzip.compress(b""), "gzip", 200, None),
        (b"", "gzip", 200, None),
        (b"{}", "gzip", 400, "it is no gzip"),
        (gzip.compress(BODY) + b"{}", "gzip", 400, "it is no gzip"),
        (gzip.compress(BODY)[:-8] + bytes(8), "gzip", 400, "it is no gzip"),
        (gzip.compress(b" " * 1001), "gzip", 413, "too large"),
        (gzip.compress(b"") * 60, "gzip", 413, "too large"),
        (gzip.compress(b" " * 100_000_000), "gzip", 413, "too large"),
        (b"x", "br", 415, "gzip or deflate"),
        (gzip.compress(gzip.compress(BODY)), "gzip, gzip", 415, "gzip or deflate"),
    ],
    ids=["empty", "none", "other", "rest", "sum", "large", "many", "bomb", "unknown", "twice"],
)
async def test_a_compressed_body_is_what_it_says_or_is_refused(
    port: int, packed: bytes, coding: str, status: int, message: str | None
) -> None:
    found, answer = await _sent(port, packed, coding)

    assert found == status
    assert answer == {} if message is None else message in answer["error"]["message"]


@pytest.mark.parametrize(("header", "told"), [("Content-Encoding", "gzip, deflate"), ("Content-Type", None)])
async def test_only_a_wrong_coding_is_answered_with_those_that_are_known(
    port: int, header: str, told: str | None
) -> None:
    """RFC 9110, 12.5.3: beside another reason the header would mislead."""
    headers = AUTHORIZATION | {"Content-Type": "application/json", header: "br"}
    async with ClientSession(headers=headers) as session:
        answer = await session.post(f"http://127.0.0.1:{port}/assessments", data=b"x")

    assert (answer.status, answer.headers.get("Accept-Encoding")) == (415, told)


async def test_streams_and_pages_have_the_headers_too(port: int) -> None:
    async with ClientSession() as session:
        stream = await session.get(f"http://127.0.0.1:{port}/health")
        page = await session.get(f"http://127.0.0.1:{port}/")

    assert EVERYWHERE.items() <= dict(stream.headers).items()
    assert stream.headers["Cache-Control"] == "no-cache"
    assert page.headers["Content-Security-Policy"] == "default-src 'self'"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_an_answer_to_a_command_is_not_kept(port: int) -> None:
    async with ClientSession(headers=AUTHORIZATION) as session:
        answer = await session.post(f"http://127.0.0.1:{port}/assessments", json={})

    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize(("forwarded", "sure"), [("https", True), ("http", False), ("https, http", False), ("", False)])
async def test_only_who_came_by_https_is_told_to_stay_with_it(port: int, forwarded: str, sure: bool) -> None:
    async with ClientSession() as session:
        answer = await session.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-Proto": forwarded})

    assert ("Strict-Transport-Security" in answer.headers) is sure


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\n5\r\nx"])
async def test_a_body_that_does_not_arrive_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, port: int, framing: bytes
) -> None:
    monkeypatch.setattr(admission, "_BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /assessments HTTP/1.1\r\nHost: a\r\n" + TOKEN + framing)

    answer = await asyncio.wait_for(reader.read(), DEADLINE)  # to the end: the connection is closed
    writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT","message":"The body has not arrived within 0.2 s"' in answer
    assert "Unhandled exception" not in caplog.text


async def test_headers_that_do_not_arrive_are_not_waited_for() -> None:
    runner = Runner(web.Application(), keepalive_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    writer.write(b"GET / HTTP/1.1\r\nHost: ")

    assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
    writer.close()
    await runner.cleanup()


def test_a_web_without_secret_and_issuer_names_both_settings() -> None:
    with pytest.raises(SettingsError, match=r"ASSESSMENTSTORE_JWT_SECRET.*ASSESSMENTSTORE_JWKS_URL"):
        build_app(Settings(_env_file=None, jwt_secret=None))  # type: ignore[call-arg]
    build_app(Settings(_env_file=None, jwks_url="https://issuer.example/keys"))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("trusted_proxies", "10.0.0.0/33"), ("jwks_url", "ftp://x"), ("rate_limit", "-1"), ("rate_burst", "0")],
)
def test_a_wrong_setting_of_the_door_is_named(setting: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"ASSESSMENTSTORE_{setting.upper()}"):
        Settings.load(**{setting: value}, _env_file=None)
