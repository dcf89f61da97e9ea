"""Answers held against the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from tests.harness.formats import FORMATS

from assessmentstore.chaos.topics import TopicRecord
from assessmentstore.web.route import Route

_BASE = "urn:openapi"


@dataclass(frozen=True)
class Told:
    """What came back."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    body: Any


class _Document:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._registry: Registry[Any] = Registry().with_resource(_BASE, DRAFT202012.create_resource(dict(document)))

    def validate(self, schema: Mapping[str, Any], instance: Any) -> None:
        """Fail where a value does not fit a schema of the document."""
        whole = _absolute(schema)
        Draft202012Validator(whole, registry=self._registry, format_checker=FORMATS).validate(instance)

    def resolved(self, item: Mapping[str, Any]) -> Any:
        """What a reference refers to, or the item itself."""
        found: Any = item
        while "$ref" in found:
            target: Any = self.document
            for part in found["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            found = target
        return found


class AsyncApi(_Document):
    """A document, and what it says of a record."""

    def check(self, channel: str, record: TopicRecord) -> str:
        """Name the message that a record is; fail where it is not as promised."""
        name, headers = self._name(channel, record), _texts(record)
        message = self.resolved(self.document["channels"][channel]["messages"][name])
        self.validate(message["headers"], headers)
        if channel == "deadLetters":
            return name
        if key := message["bindings"]["kafka"].get("key"):
            assert record.key is not None
            self.validate(key, record.key.decode())
        self.validate(message["payload"], orjson.loads(record.value) if record.value else {})
        return name

    def _name(self, channel: str, record: TopicRecord) -> str:
        if channel == "deadLetters":
            return "deadLetter"
        if channel == "legacyEvents":
            return "legacyEvent"
        if channel == "legacyNotifications":
            told = orjson.loads(record.value or b"")["type"]
            # A retry is told as a record that changed.
            return f"legacy.{'assessment.retried' if told == 'assessment.updated' else told}"
        if channel != "commands":
            return record.header("ce_type") or ""
        if kind := record.header("ce_type"):
            return f"{kind}.binary"
        return f"{orjson.loads(record.value or b'')['type']}.structured"


def _texts(record: TopicRecord) -> dict[str, str]:
    """The headers as texts, of two with one name the last, as the store reads and writes them."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}


class OpenApi(_Document):
    """A document, and what it says of an answer."""

    def check(self, route: Route, told: Told) -> None:
        """Fail where an answer is not the one that the document promises."""
        answers = self.document["paths"][route.path][route.method.lower()]["responses"]
        assert str(told.status) in answers, f"{route.name}: {told.status} is not documented: {told.body}"
        answer = self.resolved(answers[str(told.status)])
        for name, header in answer.get("headers", {}).items():
            wanted = self.resolved(header)
            assert name in told.headers or not wanted["required"], f"{route.name} {told.status}: no {name}"
            if name in told.headers:
                self.validate(wanted["schema"], told.headers[name])
        content = answer.get("content", {})
        assert bool(content) is bool(told.content_type and told.body), f"{route.name}: {told}"
        if content:
            assert told.content_type in content, f"{route.name} {told.status}: {told.content_type}"
            self.validate(content[told.content_type]["schema"], told.body)


def _absolute(schema: Any) -> Any:
    """The schema with references into the document, wherever it stands itself."""
    if isinstance(schema, Mapping):
        return {
            name: f"{_BASE}{part}" if name == "$ref" and isinstance(part, str) else _absolute(part)
            for name, part in schema.items()
        }
    return [_absolute(item) for item in schema] if isinstance(schema, list) else schema
