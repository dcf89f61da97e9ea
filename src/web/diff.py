"""What changed between two versions of an assessment."""

from __future__ import annotations

from aiohttp import web

from ..models.diff import state_changes
from .auth import Permission, authorize
from .past import states_until
from .queries import read_query
from .reads import json_response, visible
from .requests import DiffQuery


async def get_diff(request: web.Request) -> web.Response:
    """`GET /assessments/{id}/diff`."""
    user, query = authorize(request, Permission.VIEW), read_query(request, DiffQuery)
    last = max(query.from_version, query.to_version or 0)
    record = await visible(request, user, min_version=last)
    to = query.to_version or record.version
    name = "from" if query.from_version > to else "to"
    states = await states_until(request, record, max(query.from_version, to), name=name)
    changes = state_changes(states[query.from_version - 1], states[to - 1])
    return json_response(
        {"assessmentId": record.assessment_id, "from": query.from_version, "to": to, "changes": changes}
    )
