"""The JSON Schemas that are published: as the types are, and compatible with what was published before."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from tests.harness.compatible import Direction, breaks
from tests.harness.schemas import DIRECTIONS, FOLDER, PUBLISHED, generated, wire_types, written

from assessmentstore.models.assessment import AssessmentRequest
from assessmentstore.models.filters import ListQuery

Schema = dict[str, Any]

ADDRESS: Schema = {
    "$defs": {"Kind": {"enum": ["home", "work"], "type": "string"}},
    "type": "object",
    "properties": {
        "kind": {"$ref": "#/$defs/Kind"},
        "street": {"type": ["string", "null"], "minLength": 1, "maxLength": 80},
        "number": {"type": "integer", "minimum": 1, "maximum": 9999},
        "since": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "inner": {"anyOf": [{"type": "object", "properties": {"x": {"type": "number"}}}, {"type": "null"}]},
        "counts": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    },
    "required": ["kind", "number"],
}


def changed(change: Callable[[Schema], Any]) -> Schema:
    schema = copy.deepcopy(ADDRESS)
    change(schema)
    return schema


def member(name: str, **keywords: Any) -> Callable[[Schema], Any]:
    return lambda schema: schema["properties"].__setitem__(name, {**schema["properties"].get(name, {}), **keywords})


def required(*names: str) -> Callable[[Schema], Any]:
    return lambda schema: schema.__setitem__("required", list(names))


def kinds(*values: str) -> Callable[[Schema], Any]:
    return lambda schema: schema["$defs"]["Kind"].__setitem__("enum", list(values))


def _any_kind(schema: Schema) -> None:
    schema["properties"]["kind"] = {"type": "string"}


GIVEN: Direction = "given"
TAKEN: Direction = "taken"


def test_the_files_are_as_the_types_are() -> None:
    files = {file.stem: file.read_text() for file in FOLDER.glob("*.json")}

    assert files == {name: written(schema) for name, schema in generated().items()}, "run: make schemas"


@pytest.mark.parametrize("name", sorted(wire_types()))
def test_a_schema_is_one_and_compatible_with_the_published_one(name: str) -> None:
    schema, mode = generated()[name], wire_types()[name][1]
    Draft202012Validator.check_schema(schema)
    file = PUBLISHED / f"{name}.json"

    assert not file.exists() or breaks(json.loads(file.read_text()), schema, DIRECTIONS[mode]) == []


def test_nothing_that_was_published_is_gone() -> None:
    assert {file.stem for file in PUBLISHED.glob("*.json")} <= wire_types().keys()


@pytest.mark.parametrize("direction", [GIVEN, TAKEN])
@pytest.mark.parametrize("schema", [ADDRESS, *generated().values()])
def test_a_schema_is_compatible_with_itself(schema: Schema, direction: Direction) -> None:
    assert breaks(schema, copy.deepcopy(schema), direction) == []


@pytest.mark.parametrize(
    ("change", "direction"),
    [
        (member("email", type="string"), GIVEN),
        (member("email", type="string"), TAKEN),
        (required("kind", "number", "since"), GIVEN),
        (required("kind"), TAKEN),
        (member("number", maximum=99), GIVEN),
        (member("number", maximum=10_000), TAKEN),
        (member("number", type="number"), TAKEN),
        (member("street", type="string"), GIVEN),
        (member("street", maxLength=100), TAKEN),
        (member("street", pattern="^[A-Z]"), GIVEN),
        (member("tags", minItems=1), GIVEN),
        (kinds("home"), GIVEN),
        (kinds("home", "work", "other"), TAKEN),
        (member("since", description="another word"), GIVEN),
    ],
)
def test_what_surprises_nobody_is_let_through(change: Callable[[Schema], Any], direction: Direction) -> None:
    assert breaks(ADDRESS, changed(change), direction) == []


@pytest.mark.parametrize(
    ("change", "direction", "told"),
    [
        (lambda schema: schema["properties"].pop("since"), GIVEN, "/since: removed"),
        (lambda schema: schema["properties"].pop("since"), TAKEN, "/since: removed"),
        (lambda schema: schema["properties"]["inner"]["anyOf"][0]["properties"].pop("x"), GIVEN, "/inner/x: removed"),
        (required("kind"), GIVEN, "/number: may be missing where it is required"),
        (required("kind", "number", "since"), TAKEN, "/since: may be missing where it is required"),
        (member("since", type="integer", format=None), GIVEN, "/since: integer where string is known"),
        (member("number", type="number"), GIVEN, "/number: number where integer is known"),
        (member("street", type="string"), TAKEN, "/street: null where string is known"),
        (member("number", type=["integer", "null"]), GIVEN, "/number: null where integer is known"),
        (kinds("home", "work", "other"), GIVEN, "/kind: ['other'] where ['home', 'work'] are known"),
        (kinds("home"), TAKEN, "/kind: ['work'] where ['home'] are known"),
        (_any_kind, GIVEN, "/kind: any value where ['home', 'work'] are known"),
        (member("number", minimum=0), GIVEN, "/number: minimum 0 where 1 is known"),
        (member("number", maximum=99), TAKEN, "/number: maximum 9999 where 99 is known"),
        (member("street", minLength=2), TAKEN, "/street: minLength 1 where 2 is known"),
        (member("street", maxLength=100), GIVEN, "/street: maxLength 100 where 80 is known"),
        (member("street", pattern="^[A-Z]"), TAKEN, "/street: pattern None where ^[A-Z] is known"),
        (member("since", format="date"), GIVEN, "/since: format date where date-time is known"),
        (member("tags", items={"type": "integer"}), GIVEN, "/tags/*: integer where string is known"),
        (member("tags", minItems=1), TAKEN, "/tags: minItems None where 1 is known"),
        (member("counts", additionalProperties={"type": "string"}), GIVEN, "/counts/*: string where integer is known"),
        (member("counts", additionalProperties=True), GIVEN, "/counts/*: anything where integer is known"),
        (
            member("counts", propertyNames={"maxLength": 3, "type": "string"}),
            TAKEN,
            "/counts/(names): maxLength None where 3 is known",
        ),
        (lambda schema: schema.__setitem__("additionalProperties", False), TAKEN, "/*: is there where nothing may be"),
    ],
)
def test_each_kind_of_break_is_found(change: Callable[[Schema], Any], direction: Direction, told: str) -> None:
    assert told in breaks(ADDRESS, changed(change), direction)


def test_a_keyword_that_is_not_understood_is_no_silent_yes() -> None:
    with pytest.raises(ValueError, match="multipleOf"):
        breaks(ADDRESS, changed(member("number", multipleOf=5)), TAKEN)


@pytest.mark.parametrize("timeout", [2**53, 2**53 + 1, 0, "2026"])
def test_a_number_that_the_schema_refuses_is_refused_by_the_type_too(timeout: Any) -> None:
    schema, (kind, _) = generated()["assessment-request"], wire_types()["assessment-request"]
    request = {"assessmentType": "health", "options": {}, "timeout": timeout}

    assert not Draft202012Validator(schema).is_valid(request)
    with pytest.raises(ValidationError):
        kind.model_validate(request)


@pytest.mark.parametrize(
    ("time", "is_one"),
    [
        ("2026-01-31T12:00:00Z", True),
        ("2026-01-31t12:00:00.123456789+01:00", True),
        ("2026-01-31T12:00:00", False),
        ("2026-01-31 12:00:00Z", False),
        ("2026-01-31", False),
        ("1769860800", False),
        (1769860800, False),
        ("2026-02-30T12:00:00Z", False),
    ],
)
def test_a_time_is_one_of_rfc_3339_and_kept_as_it_was_written(time: Any, is_one: bool) -> None:
    body = {"assessmentType": "health", "options": {}, "timestamp": time}

    if is_one:
        assert AssessmentRequest.model_validate(body).to_wire()["timestamp"] == time
    else:
        with pytest.raises(ValidationError):
            AssessmentRequest.model_validate(body)


@pytest.mark.parametrize("time", ["0.5", "-1", "1e5", "5"])
def test_a_number_in_a_query_is_no_time(time: str) -> None:
    with pytest.raises(ValidationError, match="2026-01-31T12:00:00Z"):
        ListQuery.model_validate({"createdBefore": time})
