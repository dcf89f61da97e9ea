"""Every route of the API, in one table."""

from __future__ import annotations

from .assessment_routes import ASSESSMENT_ROUTES
from .collection_routes import BATCH_ROUTES, LIST_ROUTES
from .contract_routes import CONTRACT_ROUTES
from .operation_routes import OPERATION_ROUTES
from .stream_routes import STREAM_ROUTES
from .webhook_routes import WEBHOOK_ROUTES

ROUTES = (
    *LIST_ROUTES,
    *BATCH_ROUTES,
    *ASSESSMENT_ROUTES,
    *STREAM_ROUTES,
    *WEBHOOK_ROUTES,
    *OPERATION_ROUTES,
    *CONTRACT_ROUTES,
)
"""Words before ids: the first route that fits is taken."""
