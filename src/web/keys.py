"""The key ring of a web process, and what it can't do while payloads are encrypted."""

from __future__ import annotations

from aiohttp import web

from ..models.filters import AssessmentFilters
from ..store.encryption import NO_KEYS, KeyRing
from .queries import wrong_parameters

KEYS = web.AppKey("keys", KeyRing)


def keys_of(request: web.Request) -> KeyRing:
    """The keys that payloads are opened and sealed with."""
    return request.app.get(KEYS, NO_KEYS)


def check_filters(request: web.Request, filters: AssessmentFilters) -> None:
    """Refuse what nobody can filter by.

    Raises:
        RejectedError: VALIDATION_ERROR, the name of the server is asked for, and is encrypted.
    """
    if filters.server_name is not None and keys_of(request):
        raise wrong_parameters([("serverName", "names of servers are encrypted here, and cannot be filtered by")])
