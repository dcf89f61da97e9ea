"""`POST` and `GET /legacy/events`: the old system's events in, and the store's out under its names."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from aiohttp import web

from ..legacy.commands import Outgoing
from ..legacy.intake import Intake, results
from ..legacy.telling import Notifications
from ..models.base import JsonObject
from ..models.errors import RejectedError, Rejection
from .auth import Permission, authorize
from .bodies import MAX_ITEMS, read_json
from .feed_positions import moved, offset_at, position_from_text, position_text
from .patience import promptly
from .publisher import Publisher
from .queries import read_query, wrong_parameters
from .reads import json_response
from .requests import NotificationsQuery

INTAKE = web.AppKey("intake", Intake)
NOTIFICATIONS = web.AppKey("legacy_notifications", Notifications)

# An answer that still fits any client; a partition's chunk is less.
_MOST_NOTIFICATIONS = 500

# Where little is to be told of much, an answer with nothing in it comes soon, and says where to go on.
_MOST_PAGES = 50

_SECONDS = 10.0


class Sender:
    """The way of commands to their topic, by the publisher of this process."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def send(self, commands: Sequence[Outgoing]) -> None:
        """Put them there, those of one assessment in their order.

        Raises:
            UnavailableError: Kafka did not confirm all of them.
        """
        await self._publisher.send_all((item.key, item.value) for item in commands)


async def post_events(request: web.Request) -> web.Response:
    """`POST /legacy/events`."""
    authorize(request, Permission.MIGRATE)
    body = await read_json(request)
    values = body if isinstance(body, list) else [body]
    if not request.body_exists or not isinstance(body, dict | list) or not 0 < len(values) <= MAX_ITEMS:
        raise RejectedError(Rejection.invalid(f"The body has to be an event, or a list of 1 to {MAX_ITEMS} events"))
    delivery = uuid4().hex
    places = [(f"http:{delivery}:{index}", value) for index, value in enumerate(values)]
    taken = await promptly(request.app[INTAKE].take(places), seconds=_SECONDS)
    return json_response({"results": results(taken)})


async def read_events(request: web.Request) -> web.Response:
    """`GET /legacy/events`."""
    authorize(request, Permission.MIGRATE)
    after = read_query(request, NotificationsQuery).after
    try:
        position = position_from_text(after) if after else ()
    except ValueError as error:
        raise wrong_parameters([("after", "is no place that an earlier answer named")]) from error
    notifications, found, pages = request.app[NOTIFICATIONS], list[JsonObject](), 0
    for partition, end in enumerate(await promptly(notifications.ends())):
        while offset_at(position, partition) < end and len(found) < _MOST_NOTIFICATIONS and pages < _MOST_PAGES:
            page = await promptly(notifications.page(partition, offset_at(position, partition), end))
            found += page.notifications
            position = moved(position, partition, page.reached)
            pages += 1
    return json_response({"events": found, "next": position_text(position)})
