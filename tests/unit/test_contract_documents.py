"""The contract documents and their pages, against the table of routes and the functions that write records."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from tests.harness.documented import AsyncApi, OpenApi

from assessmentstore.models.base import RESERVED_IDS
from assessmentstore.models.commands import CommandType
from assessmentstore.models.events import EventType
from assessmentstore.settings import Settings
from assessmentstore.web.app import build_app
from assessmentstore.web.asyncapi import asyncapi_document
from assessmentstore.web.auth import Permission
from assessmentstore.web.contracts import CONTRACTS
from assessmentstore.web.openapi import openapi_document
from assessmentstore.web.routes import ROUTES

SETTINGS = Settings(
    _env_file=None,  # type: ignore[call-arg]
    jwt_secret=SecretStr("a-secret-that-is-long-enough-for-hs256"),
    topic_prefix="eu.",
    topic_partitions=12,
    kafka_bootstrap="127.0.0.1:1",
    database_url="postgresql://127.0.0.1:1/none",
    redis_url="redis://127.0.0.1:1/0",
)
OPENAPI = OpenApi(openapi_document(ROUTES, "1.2.3"))
ASYNCAPI = AsyncApi(asyncapi_document(SETTINGS, "1.2.3"))
STATIC = ["/openapi.json", "/asyncapi.json", "/docs", "/"]


def test_the_document_is_openapi_3_1() -> None:
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(OPENAPI.document)] == []


def test_every_route_of_the_application_is_in_the_document_and_the_other_way_round() -> None:
    served = {
        (route.method, route.resource.canonical)
        for route in build_app(SETTINGS).router.routes()
        if route.resource is not None and route.method not in ("HEAD", "*")
    }

    documented = {(method.upper(), path) for path, methods in OPENAPI.document["paths"].items() for method in methods}
    assert served == documented


def test_the_bounds_of_numbers_in_queries_are_told() -> None:
    parameters = OPENAPI.document["paths"]["/assessments"]["get"]["parameters"]
    bounds = {
        item["name"]: (item["schema"]["minimum"], item["schema"]["maximum"])
        for item in parameters
        if item.get("schema", {}).get("type") == "integer"
    }

    assert bounds == {
        "limit": (1, 1000),
        "offset": (0, 10_000),
        "minPriority": (1, 10),
        "maxPriority": (1, 10),
        "minProgress": (0, 100),
        "maxProgress": (0, 100),
    }


def test_no_id_stands_in_the_place_of_a_word() -> None:
    words = {
        segments[2] for route in ROUTES if len(segments := route.path.split("/")) > 2 if segments[1] == "assessments"
    }

    assert words - {"{id}"} == RESERVED_IDS - {".", ".."}


def test_whoever_reads_assessments_may_say_how_fresh_the_answer_has_to_be() -> None:
    reads = [route for route in ROUTES if route.permission is Permission.VIEW and route.name != "getMigration"]

    assert len(reads) > 8
    assert [route.name for route in reads if "Consistency-Token" not in route.headers] == []


def test_names_of_operations_are_unique() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("document", [OPENAPI, ASYNCAPI])
def test_every_reference_leads_somewhere(document: OpenApi | AsyncApi) -> None:
    found = [item for item in _walk(document.document) if isinstance(item.get("$ref"), str)]

    assert len(found) > 100
    for item in found:
        assert document.resolved(item)


def test_every_example_of_the_http_api_fits_its_schema() -> None:
    examples = [item for item in _walk(OPENAPI.document) if "schema" in item and "example" in item]

    assert len(examples) > 20
    for item in examples:
        OPENAPI.validate(item["schema"], item["example"])


def test_every_example_on_kafka_fits_its_schemas() -> None:
    messages = ASYNCAPI.document["components"]["messages"]

    for name, message in messages.items():
        assert name == "deadLetter" or message["examples"]
        for example in message.get("examples", []):
            ASYNCAPI.validate(message["headers"], example["headers"])
            ASYNCAPI.validate(message["payload"], example["payload"])


def test_the_topics_are_those_of_the_installation() -> None:
    channels = ASYNCAPI.document["channels"]

    assert {name: channel["address"] for name, channel in channels.items()} == {
        "commands": SETTINGS.commands_topic,
        "events": SETTINGS.events_topic,
        "rejections": SETTINGS.rejections_topic,
        "deadLetters": SETTINGS.dead_letters_topic,
        "legacyEvents": SETTINGS.legacy_events_topic,
        "legacyNotifications": SETTINGS.legacy_notifications_topic,
    }
    assert channels["events"]["bindings"]["kafka"]["partitions"] == 12
    assert channels["deadLetters"]["bindings"]["kafka"]["partitions"] == 1


def test_every_command_in_both_modes_and_every_event_is_a_message() -> None:
    assert set(ASYNCAPI.document["components"]["messages"]) == {
        *(f"{kind}.{mode}" for kind in CommandType for mode in ("structured", "binary")),
        *EventType,
        "assessment.rejected",
        "deadLetter",
        "legacyEvent",
        *(f"legacy.{kind}" for kind in EventType if kind is not EventType.IMPORTED),
    }


def test_no_document_tells_where_the_services_are() -> None:
    contracts = build_app(SETTINGS)[CONTRACTS]

    for content in (contracts.openapi, contracts.asyncapi, contracts.docs, contracts.landing):
        assert b"127.0.0.1" not in content.content


@pytest.fixture
async def client() -> Any:
    application = build_app(SETTINGS)
    application.cleanup_ctx.clear()  # no service is needed for these
    application.on_shutdown.clear()
    async with TestClient(TestServer(application)) as made:
        yield made


@pytest.mark.parametrize("path", STATIC)
async def test_who_has_a_document_already_is_told_so(client: Any, path: str) -> None:
    first = await client.get(path)
    again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    other = await client.get(path, headers={"If-None-Match": '"other"'})

    assert (first.status, again.status, other.status) == (200, 304, 200)
    assert await again.read() == b""
    assert again.headers["ETag"] == first.headers["ETag"]
    assert first.headers["Cache-Control"] == "no-cache"


class Page(HTMLParser):
    """What of a page a browser loads, links and names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = {name: value or "" for name, value in attrs}
        self.links += [found["href"]] if tag == "a" else []
        self.ids += [found["id"]] if "id" in found else []
        self.loaded += [found[name] for name in ("src", "style", "onclick") if name in found]


@pytest.mark.parametrize("path", ["/docs", "/"])
async def test_a_page_loads_nothing_and_its_policy_allows_no_more_than_its_own_style(client: Any, path: str) -> None:
    answer = await client.get(path)
    text = await answer.text()
    page = Page(text)

    assert page.loaded == []
    assert not {"script", "img", "link", "iframe", "form"} & set(page.tags)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/docs", "/"])
async def test_every_link_of_a_page_leads_to_a_route_or_a_place_on_it(client: Any, path: str) -> None:
    page = Page(await (await client.get(path)).text())

    served = {route.path for route in ROUTES}
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if link not in served and link.removeprefix("#") not in page.ids} == set()
    assert page.tags.count("h1") == 1


async def test_the_page_names_every_route_and_every_topic(client: Any) -> None:
    text = await (await client.get("/docs")).text()

    for route in ROUTES:
        assert f'<span class="verb {route.method}">{route.method}</span> <code>{route.path}</code>' in text
    for topic in (SETTINGS.commands_topic, SETTINGS.events_topic, SETTINGS.rejections_topic):
        assert f"<code>{topic}</code>" in text


def test_events_always_have_the_headers_that_are_promised() -> None:
    """The document is made with the function that writes them: were that to lose one, nobody else would tell."""
    messages = ASYNCAPI.document["components"]["messages"]
    promised = {"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type"}
    promised |= {"ce_commandoffset", "ce_commandfingerprint"}

    for kind in EventType:
        assert set(messages[kind]["headers"]["required"]) == promised | {"ce_sequence"}
    assert set(messages["assessment.rejected"]["headers"]["required"]) == promised
    assert set(messages["deadLetter"]["headers"]["required"]) == {"topic", "partition", "offset", "reason", "time"}


def _walk(item: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document, but for what examples say."""
    if isinstance(item, dict):
        yield item
        for name, part in item.items():
            yield from () if name in ("example", "examples") else _walk(part)
    elif isinstance(item, list):
        for part in item:
            yield from _walk(part)
