"""The calls about the move from the old system."""

from __future__ import annotations

from ..legacy.routing import routes_to_store
from .models import MigrationStatus
from .transport import Transport, parse


class MigrationCalls:
    """Who serves what, and how far the move is."""

    _transport: Transport

    async def get_migration_status(self) -> MigrationStatus:
        """Return how far the move is.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        return parse(MigrationStatus, await self._transport.read("/migration"))

    async def is_migration_complete(self) -> bool:
        """Whether the store serves everything, has everything, and differs from the old system in nothing.

        Raises:
            ClientError: as for `get_migration_status`.
        """
        status = await self.get_migration_status()
        serves_all = not status.legacy_mode and status.migration_percentage == 100
        return serves_all and status.assessments_migrated == status.total_assessments and not status.open_divergences

    async def enable_legacy_mode(self, enabled: bool) -> None:
        """Let the old system serve everything, or let it serve its share again.

        Raises:
            ClientError: as for `get_migration_status`.
        """
        await self._transport.put("/migration", {"legacyMode": enabled})

    async def set_migration_percentage(self, percentage: int) -> MigrationStatus:
        """Let the store serve this share of the ids, and leave it there.

        Raises:
            ClientError: as for `get_migration_status`.
        """
        return parse(MigrationStatus, await self._transport.put("/migration", {"percentage": percentage}))

    async def is_served_by_store(self, assessment_id: str) -> bool:
        """Whether the store serves an assessment just now, or the old system: sticky by the id.

        Raises:
            ClientError: as for `get_migration_status`.
        """
        status = await self.get_migration_status()
        return routes_to_store(assessment_id, status.migration_percentage, legacy_mode=status.legacy_mode)
