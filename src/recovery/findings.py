"""What a verification finds, as it finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..models.comparison import Difference, Digest, Field, Store

# Of what cannot be compared some are named: where a log was cut there are as many as there are assessments.
_MOST_NAMED = 20


@dataclass(slots=True)
class Partition:
    """What was compared of one command partition."""

    position: int = 0
    """What came of the commands below was compared."""
    log_begins: int = 0
    """Kafka has nothing of what came of the commands below: nothing came of them, or it is lost."""
    events: int = 0
    digests: dict[str, Digest] = field(default_factory=dict)
    """Of all states, as the log has them and as Postgres has; of entries, as caches have them and as Postgres has."""

    def add(self, name: str, expected: bytes, found: bytes) -> None:
        """Take two texts that should be one into the digests of a store."""
        for side, text in (("expected", expected), ("found", found)):
            self.digests.setdefault(f"{name} {side}", Digest()).add(text)

    def to_wire(self) -> dict[str, Any]:
        """As JSON."""
        stores: dict[str, Any] = {}
        for name, digest in self.digests.items():
            store, side = name.split(" ")
            stores.setdefault(store, {})[side] = digest.hex()
            stores[store]["compared"] = digest.count
        return {"position": self.position, "events": self.events} | stores


class Findings:
    """All that one verification finds."""

    def __init__(self, partitions: int, tell: Callable[[Difference], None]) -> None:
        """Begin.

        Args:
            partitions: of the commands topic.
            tell: hears of each difference at once.
        """
        self.partitions = {number: Partition() for number in range(partitions)}
        self.differences: list[Difference] = []
        self.not_comparable = 0
        """Assessments, and events of others, that the log cannot speak of."""
        self.left_over: dict[Store, set[str]] = {Store.REDIS: set(), Store.ROCKSDB: set()}
        """Deleted assessments that caches still have."""
        self.notes: list[str] = []
        self._tell = tell
        self._known: set[tuple[Store, str | None, str]] = set()

    def add(self, store: Store, partition: int, assessment_id: str | None, fields: Iterable[Field]) -> None:
        """Take differences, each once."""
        for each in fields:
            if (key := (store, assessment_id, each.pointer)) not in self._known:
                self._known.add(key)
                self.differences.append(
                    Difference(store=store, partition=partition, assessment_id=assessment_id, field=each)
                )
                self._tell(self.differences[-1])

    def cannot_compare(self, count: int, what: str) -> None:
        """Take note of what the log cannot speak of."""
        self.not_comparable += count
        if count and len(self.notes) < _MOST_NAMED:
            self.notes.append(what)

    def of(self, *stores: Store) -> list[Difference]:
        """The differences in some stores."""
        return [each for each in self.differences if each.store in stores]
