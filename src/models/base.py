"""What every type on the wire has in common: frozen, camelCase outside, snake_case inside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

MAX_ID_LENGTH = 255
"""Characters of an assessment id or a command id: what the `VARCHAR(255)` columns hold."""

RESERVED_IDS = frozenset({"batch", "search", "stats", ".", ".."})
"""What can be no assessment's id: in the paths of the API these mean something else, so that nobody could read it."""

JsonObject = dict[str, Any]
"""A JSON object that the store keeps and returns without looking inside."""

Text = Annotated[str, StringConstraints(strict=True)]
NonEmptyText = Annotated[str, StringConstraints(strict=True, min_length=1)]
Identifier = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_ID_LENGTH)]


def as_whole(value: Any) -> Any:
    """A number without a fraction as an integer, and anything else as it is.

    JSON has one kind of numbers, and in JSON Schema 50.0 is an integer too.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(as_whole)

Count = Annotated[int, Field(strict=True, ge=0), WHOLE]

Version = Annotated[int, Field(json_schema_extra={"minimum": 1})]
"""Told and not checked: the store makes these itself."""

PercentDone = Annotated[int, Field(json_schema_extra={"minimum": 0, "maximum": 100})]
"""Told and not checked, as above."""

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII)


def _check_only(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    check(value)
    return value


def _check_time(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, datetime) and not (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        raise ValueError("expected a time like 2026-01-31T12:00:00Z")
    return _check_only(value, check)


# What a caller wrote is checked and kept as it is: 97 is not answered as 97.0, nor a time in another notation.
# The serializer is a lambda since an annotated one would hide the type from the JSON Schema.
_UNCHANGED = PlainSerializer(lambda value: value)
AS_WRITTEN = (WrapValidator(_check_only), _UNCHANGED)

Number = Annotated[float, Field(strict=True), *AS_WRITTEN]
# Below, and not up to: 2**53 + 1 becomes 2**53 when it is looked at, and is kept as it was written.
Duration = Annotated[float, Field(strict=True, gt=0, lt=2**53), *AS_WRITTEN]
Score = Annotated[float, Field(strict=True, ge=0, le=100), *AS_WRITTEN]
Timestamp = Annotated[AwareDatetime, WrapValidator(_check_time), _UNCHANGED]


@dataclass(frozen=True, slots=True)
class WrittenAs:
    """Tell, in the JSON Schema, that an object was checked as a type before it came here; it is not looked at again."""

    kind: type[BaseModel]

    def __get_pydantic_json_schema__(self, _schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # Within another schema it becomes a reference, alone it would be written out at every place.
        schema = core_schema.no_info_after_validator_function(lambda value: value, self.kind.__pydantic_core_schema__)
        return handler(schema)


class WireModel(BaseModel):
    """A frozen type whose JSON has camelCase names; members it does not know are ignored."""

    _wire_names: ClassVar[tuple[tuple[str, str], ...]]

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._wire_names = tuple((name, field.alias or name) for name, field in cls.model_fields.items())

    def to_wire(self) -> JsonObject:
        """The members by their names on the wire, fit for orjson."""
        # Half the time of pydantic's own writer, for the same bytes: this is done twice for each command.
        values = self.__dict__
        return {alias: values[name] for name, alias in self._wire_names}

    def to_json(self) -> bytes:
        """The JSON of `to_wire`, times in UTC as RFC 3339 with a Z."""
        return orjson.dumps(self.to_wire(), option=orjson.OPT_UTC_Z)


class StableWireModel(WireModel):
    """A wire type whose JSON has its members in the order of their names, however deep.

    Postgres' `jsonb` keeps no order: what is read back from it and written again is the same bytes only so.
    """

    def to_json(self) -> bytes:
        """The JSON of `to_wire`, the same bytes whoever writes it."""
        return self.write(self.to_wire())

    @staticmethod
    def write(wire: JsonObject) -> bytes:
        """What `to_wire` told as `to_json` writes it."""
        return orjson.dumps(wire, option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS)


class OpenWireModel(WireModel):
    """A wire type of the callers' own: members it does not know are kept, and none is made up."""

    model_config = ConfigDict(extra="allow", json_schema_serialization_defaults_required=False)

    def to_wire(self) -> JsonObject:
        """What the caller gave, no more."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
