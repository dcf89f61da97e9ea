"""What every type on the wire has in common: frozen, camelCase outside, snake_case inside."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

MAX_ID_LENGTH = 255
"""Characters of an assessment id or a command id: what the `VARCHAR(255)` columns hold."""

JsonObject = dict[str, Any]
"""A JSON object that the store keeps and returns without looking inside."""

Text = Annotated[str, StringConstraints(strict=True)]
NonEmptyText = Annotated[str, StringConstraints(strict=True, min_length=1)]
Identifier = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_ID_LENGTH)]
Count = Annotated[int, Field(strict=True, ge=0)]


def _check_only(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    check(value)
    return value


def _unchanged(value: Any) -> Any:
    return value


# What a caller wrote is checked and kept as it is: 97 is not answered as 97.0, nor a time in another notation.
_AS_WRITTEN = (WrapValidator(_check_only), PlainSerializer(_unchanged))

Number = Annotated[float, Field(strict=True), *_AS_WRITTEN]
Duration = Annotated[float, Field(strict=True, gt=0, le=2**53), *_AS_WRITTEN]
Score = Annotated[float, Field(strict=True, ge=0, le=100), *_AS_WRITTEN]
Timestamp = Annotated[AwareDatetime, *_AS_WRITTEN]


class WireModel(BaseModel):
    """A frozen type whose JSON has camelCase names; members it does not know are ignored."""

    _wire_names: ClassVar[tuple[tuple[str, str], ...]]

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, extra="ignore"
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


class OpenWireModel(WireModel):
    """A wire type of the callers' own: members it does not know are kept, and none is made up."""

    model_config = ConfigDict(extra="allow")

    def to_wire(self) -> JsonObject:
        """What the caller gave, no more."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
