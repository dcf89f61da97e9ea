"""Whether a JSON Schema changed only so that whoever knows the old one is not surprised.

The one question is whether every value of one schema fits another. What the store gives has to fit what its readers
know: new values in the old schema. What others send has to be taken on: old values in the new schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

Schema = Mapping[str, Any]
Direction = Literal["given", "taken"]

_TELLS_NOTHING = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "readOnly", "discriminator"}
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_SAME = ("pattern", "format")
_KNOWN = {
    *(
        "$ref",
        "anyOf",
        "oneOf",
        "type",
        "enum",
        "const",
        "items",
        "properties",
        "required",
        "additionalProperties",
        "propertyNames",
    ),
    *_TELLS_NOTHING,
    *_LOWER,
    *_UPPER,
    *_SAME,
}


def breaks(old: Schema, new: Schema, direction: Direction) -> list[str]:
    """What of a change breaks whoever relies on the old schema, each with the place."""
    before, after = _View(old, old), _View(new, new)
    inner, outer = (after, before) if direction == "given" else (before, after)
    return sorted({*_misfits(inner, outer, "", ()), *_removed(before, after, "", ())})


_NOTHING: Schema = {"enum": []}
"""What `false` means."""


@dataclass(frozen=True)
class _View:
    """A schema in its document."""

    schema: Schema
    root: Schema

    def at(self, schema: Any) -> _View:
        """Another schema of the same document; `true` and `false` are schemas too."""
        return _View({} if schema is True else _NOTHING if schema is False else schema, self.root)

    def resolved(self) -> _View:
        """What it refers to."""
        found = self.schema
        while "$ref" in found:
            found = self.root["$defs"][found["$ref"].removeprefix("#/$defs/")]
        if unknown := found.keys() - _KNOWN:
            raise ValueError(f"nothing is known of the keywords {sorted(unknown)}: teach the comparison what they mean")
        return self.at(found)

    def alternatives(self) -> Iterator[_View]:
        """The same as schemas of one type each."""
        view = self.resolved()
        for several in ("anyOf", "oneOf"):
            if several in view.schema:
                yield from chain.from_iterable(view.at(item).alternatives() for item in view.schema[several])
                return
        kinds = view.schema.get("type")
        if isinstance(kinds, list):
            yield from (view.at({**view.schema, "type": kind}) for kind in kinds)
        else:
            yield view

    @property
    def lets_nothing(self) -> bool:
        """Whether no value fits."""
        return self.schema is _NOTHING

    @property
    def values(self) -> list[Any] | None:
        """The only values that fit, where they are listed."""
        return [self.schema["const"]] if "const" in self.schema else self.schema.get("enum")

    def member(self, name: str) -> _View | None:
        """The schema of a member; nothing where anything may stand there."""
        found = self.schema.get("properties", {}).get(name, self.schema.get("additionalProperties", True))
        return None if found is True else self.at(found)


def _misfits(inner: _View, outer: _View, path: str, seen: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Where a value of one schema would not fit the other."""
    pair = id(inner.resolved().schema), id(outer.resolved().schema)
    if pair in seen:
        return
    choices = list(outer.alternatives())
    for one in inner.alternatives():
        found = [list(_one_misfits(one, choice, path, (*seen, pair))) for choice in choices]
        # The choice that is nearest tells best what is wrong.
        yield from min(found, key=len) if all(found) else ()


def _one_misfits(inner: _View, outer: _View, path: str, seen: tuple[tuple[int, int], ...]) -> Iterator[str]:
    kind, wanted = inner.schema.get("type"), outer.schema.get("type")
    if wanted is not None and kind != wanted and (kind, wanted) != ("integer", "number"):
        yield f"{path}: {kind or 'anything'} where {wanted} is known"
        return
    if outer.values is not None:
        strange = [value for value in inner.values or () if value not in outer.values]
        if inner.values is None or strange:
            yield f"{path}: {strange or 'any value'} where {outer.values} are known"
    elif inner.values is None:
        yield from _bound_misfits(inner.schema, outer.schema, path)
    yield from _object_misfits(inner, outer, path, seen)
    if "items" in outer.schema:
        yield from _misfits(
            inner.at(inner.schema.get("items", True)), outer.at(outer.schema["items"]), f"{path}/*", seen
        )


def _bound_misfits(inner: Schema, outer: Schema, path: str) -> Iterator[str]:
    for keyword in (*_LOWER, *_UPPER, *_SAME):
        if keyword not in outer:
            continue
        limit, found = outer[keyword], inner.get(keyword)
        fits = found is not None and (
            found >= limit if keyword in _LOWER else found <= limit if keyword in _UPPER else found == limit
        )
        if not fits:
            yield f"{path}: {keyword} {found} where {limit} is known"


def _object_misfits(inner: _View, outer: _View, path: str, seen: tuple[tuple[int, int], ...]) -> Iterator[str]:
    for name in outer.schema.get("required", ()):
        if name not in inner.schema.get("required", ()):
            yield f"{path}/{name}: may be missing where it is required"
    names = {*inner.schema.get("properties", {}), *outer.schema.get("properties", {})}
    for name in sorted(names):
        mine, theirs = inner.member(name), outer.member(name)
        if mine is not None and theirs is not None:
            yield from _member_misfits(mine, theirs, f"{path}/{name}", seen)
    if "propertyNames" in outer.schema:
        named = inner.at(inner.schema.get("propertyNames", {"type": "string"}))
        yield from _misfits(named, outer.at(outer.schema["propertyNames"]), f"{path}/(names)", seen)
    others, known = inner.member(""), outer.member("")
    if known is not None:
        yield from _member_misfits(others or inner.at(True), known, f"{path}/*", seen)


def _member_misfits(mine: _View, theirs: _View, path: str, seen: tuple[tuple[int, int], ...]) -> Iterator[str]:
    if mine.lets_nothing:
        return
    if theirs.lets_nothing:
        yield f"{path}: is there where nothing may be"
        return
    yield from _misfits(mine, theirs, path, seen)


def _removed(before: _View, after: _View, path: str, seen: tuple[int, ...]) -> Iterator[str]:
    """Members that are no longer spoken of, wherever they were."""
    now = list(after.alternatives())
    for then in before.alternatives():
        if id(then.schema) in seen:
            continue
        for name, member in then.schema.get("properties", {}).items():
            found = [
                view.at(view.schema["properties"][name]) for view in now if name in view.schema.get("properties", {})
            ]
            if not found:
                yield f"{path}/{name}: removed"
            elif len(found) == 1:
                yield from _removed(then.at(member), found[0], f"{path}/{name}", (*seen, id(then.schema)))
