"""The OpenAPI 3.1 document, made of the table of routes and of the models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from ..models.base import MAX_ID_LENGTH
from ..models.schemas import Mode, schemas
from .answers import Error, Problem
from .openapi_headers import COMMON_HEADERS, REQUEST_HEADERS, response_header
from .route import Body, Reply, Route

Document = dict[str, Any]
"""An OpenAPI document, or a part of one."""

_REFS = "#/components/schemas/{model}"

_JSON, _PROBLEM, _EVENTS = "application/json", "application/problem+json", "text/event-stream"

_DESCRIPTION = """\
Assessments are changed by commands, over this API and over Kafka alike, and each accepted command is applied exactly \
once. A command is answered when it is applied, or with `Prefer: respond-async` as soon as Kafka has it.

Errors are `{"error": {"code", "message", …}}`, or RFC 9457 problems where `Accept` names `application/problem+json`. \
`code` is for programs, the words are for people.

A query parameter that a route does not have, or a value that it does not know, is 400, and never ignored. \
Only `/health`, `/ready` and `/metrics` ignore all: what a probe adds is no reason to take a healthy process out.

An `Idempotency-Key` on any POST: the same key and body give the same answer and have one effect.

Wherever there is a GET there is a HEAD, but for the streams of events."""

_WEBHOOK = {
    "name": "webhook",
    "in": "path",
    "required": True,
    "description": "The webhook.",
    "schema": {"type": "string", "format": "uuid"},
}

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The assessment.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH},
}


def openapi_document(routes: Sequence[Route], version: str) -> Document:
    """The document of these routes."""
    models = _Models(routes)
    paths: dict[str, Document] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AssessmentStore",
            "summary": "The state of every assessment, applied exactly once.",
            "description": _DESCRIPTION,
            "version": version,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearerAuth": []}],
        "tags": [{"name": name} for name in dict.fromkeys(route.group for route in routes)],
        "paths": paths,
        "components": {
            "schemas": models.components,
            "responses": {name: _failure(status, codes) for name, status, codes in _failures(routes)},
            "parameters": {name: REQUEST_HEADERS[name] for route in routes for name in route.headers}
            | {"id": _ID, "webhook": _WEBHOOK},
            "headers": COMMON_HEADERS,
            "securitySchemes": {
                "bearerAuth": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Claims: `sub`, `role` or `roles` (USER, ADMIN, HUMAN_OVERSIGHT), `exp`; "
                    "`permissions`, where it is there, takes the place of those of the roles.",
                }
            },
        },
    }


class _Models:
    """The schemas of everything that the routes take and give."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._refs, components = schemas(dict.fromkeys(_kinds(routes)), refs=_REFS)
        queries = {self._name(route.query) for route in routes if route.query}
        self._queries = {name: components[name] for name in queries}
        self.components = {name: schema for name, schema in components.items() if name not in queries}

    def ref(self, kind: type[BaseModel]) -> Document:
        """A reference to a type."""
        return dict(self._refs[kind])

    def query(self, kind: type[BaseModel]) -> Document:
        """The schema of the parameters in a query."""
        return self._queries[self._name(kind)]

    def _name(self, kind: type[BaseModel]) -> str:
        return str(self._refs[kind]["$ref"]).rpartition("/")[2]


def _kinds(routes: Iterable[Route]) -> Iterator[tuple[type[BaseModel], Mode]]:
    yield Error, "serialization"
    yield Problem, "serialization"
    for route in routes:
        for taken in (route.query, route.body.of if route.body else None):
            if taken is not None:
                yield taken, "validation"
        for reply in route.replies.values():
            if reply.of is not None:
                yield reply.of, "serialization"


def _operation(route: Route, models: _Models) -> Document:
    parts = {
        "operationId": route.name,
        "tags": [route.group],
        "summary": route.summary,
        "description": route.description,
        "x-permission": route.permission,
        "parameters": _parameters(route, models),
        "requestBody": route.body and _body(route.body, models),
        "responses": {
            str(int(status)): _reply(reply, models, is_open=route.permission is None)
            for status, reply in route.replies.items()
        }
        | {
            str(status): {"$ref": f"#/components/responses/{_failure_name(status, codes)}"}
            for status, codes in route.failures.items()
            if status not in route.replies
        },
    }
    found = {name: part for name, part in parts.items() if part}
    return found | ({"security": []} if route.permission is None else {})


def _parameters(route: Route, models: _Models) -> list[Document]:
    named = [name for name in ("id", "webhook") if f"{{{name}}}" in route.path]
    found: list[Document] = [{"$ref": f"#/components/parameters/{name}"} for name in named]
    if route.query:
        schema = models.query(route.query)
        for name, member in schema["properties"].items():
            wanted = _given({key: value for key, value in member.items() if key != "description"})
            parameter = {"name": name, "in": "query", "schema": wanted}
            if "description" in member:
                parameter["description"] = member["description"]
            found.append(parameter | ({"required": True} if name in schema.get("required", ()) else {}))
    return found + [{"$ref": f"#/components/parameters/{name}"} for name in route.headers]


def _given(schema: Document) -> Document:
    """The schema of a parameter that is there; one that is not is no null."""
    match schema:
        case {"type": [kind, "null"]}:
            return schema | {"type": kind}
        case {"anyOf": [kind, {"type": "null"}]}:
            return {**{name: part for name, part in schema.items() if name != "anyOf"}, **kind}
    return schema


def _body(body: Body, models: _Models) -> Document:
    schema = models.ref(body.of)
    if body.is_list:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": body.most_items}
    return {"required": body.required, "content": {_JSON: _with_example(schema, body.example)}}


def _reply(reply: Reply, models: _Models, *, is_open: bool) -> Document:
    content: Document = {}
    if reply.of:
        content[_JSON] = _with_example(models.ref(reply.of), reply.example)
    if reply.text:
        content[reply.text] = _with_example({"type": "string"}, None if reply.of else reply.example)
    headers = {name.rstrip("?"): response_header(name) for name in reply.headers} | _common_headers(is_open=is_open)
    return {"description": reply.description, "headers": headers} | ({"content": content} if content else {})


def _with_example(schema: Document, example: object) -> Document:
    return {"schema": schema} | ({} if example is None else {"example": example})


def _common_headers(*, is_open: bool) -> Document:
    return {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in COMMON_HEADERS
        if not (is_open and name.startswith("RateLimit"))
    }


def _failures(routes: Iterable[Route]) -> Iterator[tuple[str, int, list[str]]]:
    """Every combination of codes that some route answers with one status."""
    for route in routes:
        for status, codes in route.failures.items():
            yield _failure_name(status, codes), status, codes


def _failure_name(status: int, codes: Sequence[str]) -> str:
    return ".".join([str(int(status)), *codes])


def _failure(status: int, codes: Sequence[str]) -> Document:
    """An error in both renderings."""
    code: Document = {"enum": list(codes)}
    envelope = {"error": {"properties": {"code": code}}}
    number: Mapping[str, object] = {"status": {"const": int(status)}, "code": code}
    headers = {"Vary": response_header("Vary")}
    if name := _EXTRA_HEADERS.get(status):
        headers[name.rstrip("?")] = response_header(name)
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": headers,
        "content": {
            _JSON: {"schema": {"allOf": [{"$ref": _REFS.format(model="Error")}, {"properties": envelope}]}},
            _PROBLEM: {"schema": {"allOf": [{"$ref": _REFS.format(model="Problem")}, {"properties": number}]}},
        },
    }


_EXTRA_HEADERS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "WWW-Authenticate",
    HTTPStatus.CONFLICT: "Idempotency-Replayed?",
    HTTPStatus.PRECONDITION_FAILED: "Idempotency-Replayed?",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Accept-Encoding?",
    HTTPStatus.TOO_MANY_REQUESTS: "Retry-After",
    HTTPStatus.SERVICE_UNAVAILABLE: "Retry-After",
}
