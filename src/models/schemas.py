"""JSON Schema of the wire types: one way of writing it, for every document and file that shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

from pydantic import BaseModel
from pydantic.json_schema import DEFAULT_REF_TEMPLATE, GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

Mode = Literal["validation", "serialization"]
"""Whether a type is taken from callers or given to them."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WireSchema(GenerateJsonSchema):
    """pydantic's schemas without what says nothing: titles made of names, and defaults of nothing."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if "const" in found or found.get("default") in (None, []):
            found.pop("default", None)
        return found

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        found = super().nullable_schema(schema)
        inner = found.get("anyOf", [{}])[0]
        if not isinstance(inner.get("type"), str) or {"enum", "const"} & inner.keys():
            return found
        return {**inner, "type": [inner["type"], "null"]}


def schemas(
    kinds: Iterable[tuple[type[BaseModel], Mode]], *, refs: str = DEFAULT_REF_TEMPLATE
) -> tuple[dict[type[BaseModel], JsonSchemaValue], dict[str, JsonSchemaValue]]:
    """The schema of each type, and the definitions that they refer to.

    Args:
        kinds: each type, and whether it is taken or given.
        refs: how definitions are referred to, with `{model}` for the name.
    """
    found, whole = models_json_schema(list(kinds), schema_generator=_WireSchema, ref_template=refs)
    return {cast(type[BaseModel], kind): schema for (kind, _), schema in found.items()}, whole.get("$defs", {})


def standalone(kind: type[BaseModel], mode: Mode) -> JsonSchemaValue:
    """The schema of one type, with everything that it refers to inside."""
    schema = kind.model_json_schema(schema_generator=_WireSchema, mode=mode)
    return {"$schema": DIALECT, **schema}
