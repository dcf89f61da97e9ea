"""The routes of webhooks, a part of the table of routes."""

from __future__ import annotations

from http import HTTPStatus

from ..models import webhooks
from ..models.errors import ErrorCode
from ..models.filters import WebhooksQuery
from . import examples
from .auth import Permission
from .route import KEYED, Body, Reply, Route
from .webhooks import (
    delete_webhook,
    get_deliveries,
    get_webhook,
    get_webhooks,
    register,
    resume_webhook,
    rotate_webhook,
    try_webhook,
)

_GROUP = "Webhooks"
_REPLAYED = ("Idempotency-Replayed?",)

WEBHOOK_ROUTES = (
    Route(
        method="POST",
        path="/webhooks",
        name="registerWebhook",
        handler=register,
        group=_GROUP,
        summary="Be told of events at a URL",
        description="Messages are signed as Standard Webhooks has it, and sent until they are taken.",
        permission=Permission.WEBHOOKS,
        headers=KEYED,
        body=Body(of=webhooks.WebhookRequest, example=examples.WEBHOOK_REQUEST),
        replies={
            HTTPStatus.CREATED: Reply(
                description="It hears of what happens from now on.",
                of=webhooks.NewWebhook,
                headers=_REPLAYED,
            )
        },
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="GET",
        path="/webhooks",
        name="listWebhooks",
        handler=get_webhooks,
        group=_GROUP,
        summary="One's own webhooks; ADMIN sees everybody's",
        permission=Permission.WEBHOOKS,
        query=WebhooksQuery,
        replies={HTTPStatus.OK: Reply(description="The oldest first.", of=webhooks.WebhookList)},
    ),
    Route(
        method="GET",
        path="/webhooks/{webhook}",
        name="getWebhook",
        handler=get_webhook,
        group=_GROUP,
        summary="One webhook, and how it does",
        permission=Permission.WEBHOOKS,
        replies={HTTPStatus.OK: Reply(description="The webhook.", of=webhooks.Webhook)},
    ),
    Route(
        method="DELETE",
        path="/webhooks/{webhook}",
        name="deleteWebhook",
        handler=delete_webhook,
        group=_GROUP,
        summary="Forget a webhook with all that waits for it",
        permission=Permission.WEBHOOKS,
        replies={HTTPStatus.NO_CONTENT: Reply(description="It is gone.")},
    ),
    Route(
        method="GET",
        path="/webhooks/{webhook}/deliveries",
        name="listDeliveries",
        handler=get_deliveries,
        group=_GROUP,
        summary="The messages that wait for a webhook, or were given up",
        permission=Permission.WEBHOOKS,
        replies={HTTPStatus.OK: Reply(description="Those first in the queue first.", of=webhooks.WebhookDeliveries)},
    ),
    Route(
        method="POST",
        path="/webhooks/{webhook}/test",
        name="testWebhook",
        handler=try_webhook,
        group=_GROUP,
        summary="Send a test message",
        permission=Permission.WEBHOOKS,
        headers=KEYED,
        replies={
            HTTPStatus.ACCEPTED: Reply(description="It is in the queue.", of=webhooks.WebhookTested, headers=_REPLAYED)
        },
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="POST",
        path="/webhooks/{webhook}/resume",
        name="resumeWebhook",
        handler=resume_webhook,
        group=_GROUP,
        summary="Switch a webhook on again, and send what was given up too",
        permission=Permission.WEBHOOKS,
        headers=KEYED,
        replies={HTTPStatus.OK: Reply(description="It is on.", of=webhooks.Webhook, headers=_REPLAYED)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="POST",
        path="/webhooks/{webhook}/rotate",
        name="rotateWebhook",
        handler=rotate_webhook,
        group=_GROUP,
        summary="Take a new secret; for a day the one before signs too",
        permission=Permission.WEBHOOKS,
        headers=KEYED,
        replies={HTTPStatus.OK: Reply(description="With the new secret.", of=webhooks.NewWebhook, headers=_REPLAYED)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
)
