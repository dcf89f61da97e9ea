"""The pages for people: both contract documents at `/docs`, and what is where at `/`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import orjson

from .page import code, page, prose, table

Document = Mapping[str, Any]

_HOME = {"Home": "/", "openapi.json": "/openapi.json", "asyncapi.json": "/asyncapi.json"}


def landing_page(version: str) -> bytes:
    """What this is, and where to find what."""
    rows = [
        ("/docs", "The HTTP API and the Kafka topics, for people"),
        ("/openapi.json", "The HTTP API as OpenAPI 3.1"),
        ("/asyncapi.json", "The Kafka topics as AsyncAPI 3.0"),
        ("/health", "How everything is"),
        ("/ready", "Whether requests can be served"),
        ("/metrics", "Figures for monitoring"),
    ]
    linked = [(f'<a href="{path}">{code(path)}</a>', escape(words)) for path, words in rows]
    lead = (
        "<p>The state of every assessment, applied exactly once: commands over HTTP and Kafka, truth in Postgres,"
        f" change events for everybody. Version {escape(version)}.</p>"
    )
    return page("AssessmentStore", lead, table("Where to find what", ("Path", "What it is"), linked), {})


def docs_page(openapi: Document, asyncapi: Document) -> bytes:
    """Every route and every topic, with the types that they take and give."""
    operations: dict[str, list[str]] = {tag["name"]: [] for tag in openapi["tags"]}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            operations[operation["tags"][0]].append(_operation(path, method.upper(), operation, openapi))
    sections = {**{name: "".join(found) for name, found in operations.items()}}
    sections["Kafka topics"] = f"<p>{prose(asyncapi['info']['description'])}</p>" + _topics(asyncapi)
    types = openapi["components"]["schemas"] | asyncapi["components"]["schemas"]
    sections["Types"] = "".join(_type(name, types[name]) for name in sorted(types))
    main = "".join(
        f'<section aria-labelledby="{_id(name)}"><h2 id="{_id(name)}">{escape(name)}</h2>{content}</section>'
        for name, content in sections.items()
    )
    lead = "".join(f"<p>{prose(text)}</p>" for text in openapi["info"]["description"].split("\n\n"))
    return page("AssessmentStore: contracts", lead, main, _HOME | {name: f"#{_id(name)}" for name in sections})


def _operation(path: str, method: str, operation: Document, openapi: Document) -> str:
    parameters = [_resolved(item, openapi) for item in operation.get("parameters", ())]
    rows = [
        (code(item["name"]), escape(item["in"]), _kind(item["schema"]), _notes(item, required=item.get("required")))
        for item in parameters
    ]
    answers = [
        (code(status), _contents(answer.get("content", {})), prose(answer["description"]))
        for status, answer in ((key, _resolved(item, openapi)) for key, item in operation["responses"].items())
    ]
    permission = operation.get("x-permission")
    who = f"Needs a token with the permission `{permission}`." if permission else "Needs no token."
    return _details(
        f'<span class="verb {method}">{method}</span> <code>{escape(path)}</code>',
        operation["summary"],
        f"<p>{prose(operation.get('description', ''))} {prose(who)}</p>",
        table("Parameters", ("Name", "In", "Type", "Meaning"), rows),
        _body(operation.get("requestBody")),
        table("Answers", ("Status", "Body", "Meaning"), answers),
    )


def _body(body: Document | None) -> str:
    if body is None:
        return ""
    media = body["content"]["application/json"]
    needed = "" if body["required"] else ", may be left out"
    return f"<h4>Body</h4><p>{_kind(media['schema'])}{needed}</p>{_example(media.get('example'))}"


def _contents(content: Document) -> str:
    """What an answer is, in each media type; the two renderings of an error are one thing."""
    kinds = {
        media: _kind(item["schema"]["allOf"][0] if "allOf" in item["schema"] else item["schema"])
        for media, item in content.items()
    }
    return "<br>".join(
        kind if media == "application/json" else f"{kind} as {code(media)}" for media, kind in kinds.items()
    )


def _topics(asyncapi: Document) -> str:
    messages = asyncapi["components"]["messages"]
    found = []
    for channel in asyncapi["channels"].values():
        partitions = channel["bindings"]["kafka"]["partitions"]
        found.append(
            f"<h4>{code(channel['address'])}</h4><p>{escape(channel['summary'])} Partitions: {partitions}.</p>"
        )
        found += [_message(messages[name]) for name in channel["messages"]]
    return "".join(found)


def _message(message: Document) -> str:
    headers = message["headers"]
    rows = [
        (code(name), _kind(schema), _notes(schema, required=name in headers["required"]))
        for name, schema in headers["properties"].items()
    ]
    example = message.get("examples", [{}])[0].get("payload")
    return _details(
        code(message["title"]),
        message["summary"],
        f"<p>Value: {_kind(message['payload'])}, {code(message['contentType'])}</p>",
        table("Headers", ("Name", "Type", "Meaning"), rows),
        _example(example),
    )


def _type(name: str, schema: Document) -> str:
    required = schema.get("required", ())
    rows = [
        (code(member), _kind(found), _notes(found, required=member in required))
        for member, found in schema.get("properties", {}).items()
    ]
    about = f"<p>{prose(schema.get('description', ''))}</p>" if "properties" in schema else f"<p>{_kind(schema)}</p>"
    # What a link leads to stands inside: browsers open what is closed around it.
    inside = f'<div id="type-{escape(name)}">{about}{table("Members", ("Name", "Type", "Meaning"), rows)}</div>'
    return _details(code(name), "", inside)


def _details(head: str, summary: str, *parts: str) -> str:
    return f"<details><summary><h3>{head}</h3> <span>{prose(summary)}</span></summary>{''.join(parts)}</details>"


def _kind(schema: Document) -> str:
    """A type in a few words, with a link where it has a name."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f'<a href="#type-{escape(name)}">{escape(name)}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_kind(item) for item in schema[several])
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "items" in schema:
        return f"list of {_kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    kinds = schema.get("type", "anything")
    words = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return escape(" ".join([words, *_bounds(schema)]))


def _bounds(schema: Document) -> Iterable[str]:
    if "format" in schema:
        yield f"({schema['format']})"
    low, high = schema.get("minimum", schema.get("minLength")), schema.get("maximum", schema.get("maxLength"))
    unit = " characters" if {"minLength", "maxLength"} & schema.keys() else ""
    if low is not None and high is not None:
        yield f"{low} to {high}{unit}"
    elif low is not None or high is not None:
        yield f"from {low}{unit}" if high is None else f"up to {high}{unit}"


def _notes(item: Document, *, required: bool | None) -> str:
    default = item.get("schema", item).get("default")
    notes = ["Required." if required else "", item.get("description", "")]
    return prose(" ".join(note for note in notes if note)) + ("" if default is None else f" Default: {code(default)}")


def _example(example: object) -> str:
    if example is None:
        return ""
    text = orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
    return f'<h4>Example</h4><pre tabindex="0">{escape(text)}</pre>'


def _resolved(item: Document, document: Document) -> Document:
    found: Any = item
    while "$ref" in found:
        target: Any = document
        for part in str(found["$ref"]).removeprefix("#/").split("/"):
            target = target[part]
        found = target
    return dict(found)


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")
