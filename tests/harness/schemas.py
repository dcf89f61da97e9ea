"""The JSON Schemas below `docs/schemas`: `make schemas` writes them, and a test reads them.

`docs/schemas/v1` is what was published: it stays as it is, and whatever is written later has to be compatible with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

from assessmentstore.models.assessment import AssessmentRecord, AssessmentRequest
from assessmentstore.models.commands import COMMAND_DATA
from assessmentstore.models.errors import RejectedCommand
from assessmentstore.models.events import EventType, event_class
from assessmentstore.models.result import AssessmentResult
from assessmentstore.models.schemas import Mode, standalone
from assessmentstore.web.answers import Error, Problem
from assessmentstore.web.route import Route
from assessmentstore.web.routes import ROUTES

from .compatible import Direction

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
PUBLISHED = FOLDER / "v1"

DIRECTIONS: dict[Mode, Direction] = {"validation": "taken", "serialization": "given"}


def wire_types() -> dict[str, tuple[type[BaseModel], Mode]]:
    """Every type on the wire by the name of its file, and whether it is taken or given."""
    found: dict[str, tuple[type[BaseModel], Mode]] = {
        **{f"{kind}.command": (data, "validation") for kind, data in COMMAND_DATA.items()},
        **{f"{kind}.event": (event_class(kind), "serialization") for kind in EventType},
        "assessment.rejected": (RejectedCommand, "serialization"),
    }
    others: list[tuple[type[BaseModel], Mode]] = [
        *((kind, "validation") for kind in (AssessmentRequest, AssessmentResult)),
        *((kind, "serialization") for kind in (AssessmentRecord, Error, Problem)),
        *(pair for route in ROUTES for pair in _kinds(route)),
    ]
    return found | {_name(kind): (kind, mode) for kind, mode in others}


def generated() -> dict[str, dict[str, Any]]:
    """The schemas as they are now."""
    return {
        name: {"$id": f"urn:assessmentstore:schema:{name}", **standalone(kind, mode)}
        for name, (kind, mode) in wire_types().items()
    }


def written(schema: dict[str, Any]) -> str:
    """A schema as its file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write all of them, and remove those that are none any more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    schemas = generated()
    for file in FOLDER.glob("*.json"):
        if file.stem not in schemas:
            file.unlink()
    for name, schema in schemas.items():
        (FOLDER / f"{name}.json").write_text(written(schema))


def _kinds(route: Route) -> list[tuple[type[BaseModel], Mode]]:
    taken: list[tuple[type[BaseModel], Mode]] = [(route.body.of, "validation")] if route.body else []
    given: list[tuple[type[BaseModel], Mode]] = [
        (reply.of, "serialization") for reply in route.replies.values() if reply.of
    ]
    commands = set(COMMAND_DATA.values())
    return [(kind, mode) for kind, mode in taken + given if kind not in commands and kind.__name__ != "Document"]


def _name(kind: type[BaseModel]) -> str:
    return to_snake(kind.__name__).replace("_", "-")


if __name__ == "__main__":
    write()
