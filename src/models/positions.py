"""Positions on the commands topic: the freshness that a command promises and a read can ask for.

A command's position is known as soon as Kafka has it. Whatever has applied everything below it is at least as fresh as
that command's outcome, be it accepted or refused: Postgres, one of its replicas, Redis, or a worker's table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

TOKEN_HEADER = "Consistency-Token"  # noqa: S105 - a name, and no secret
"""Where a command's answer tells its position, and where a read says how fresh it has to be."""

# The number is for a day when tokens mean something else: old ones are then told from new ones.
POSITIONS_PATTERN = r"p1\.((?:[0-9a-f]{1,8}-[0-9a-f]{1,16})(?:_[0-9a-f]{1,8}-[0-9a-f]{1,16})*)?"
_TOKEN = re.compile(POSITIONS_PATTERN)

_LARGEST_PARTITION = 2**31 - 1
_LARGEST_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Positions:
    """Of some partitions, the offset below which every command has to be applied; a merge is the least upper bound."""

    needed: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def after(cls, partition: int, offset: int) -> Self:
        """Where one command is applied, and all before it."""
        return cls({partition: offset + 1})

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read what `encode` wrote.

        Raises:
            ValueError: it is something else.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError("it is not a token of this version")
        needed: dict[int, int] = {}
        for pair in match[1].split("_") if match[1] else ():
            partition, offset = (int(number, 16) for number in pair.split("-"))
            if partition > _LARGEST_PARTITION or offset > _LARGEST_OFFSET:
                raise ValueError("it names a position that no topic has")
            needed[partition] = max(offset, needed.get(partition, 0))
        return cls(needed)

    def encode(self) -> str:
        """The token: opaque to callers, and fit for headers and URLs as it is."""
        return "p1." + "_".join(f"{partition:x}-{offset:x}" for partition, offset in sorted(self.needed.items()))

    def merge(self, other: Positions) -> Positions:
        """At least as fresh as both."""
        highest = {
            partition: max(self.needed.get(partition, 0), other.needed.get(partition, 0))
            for partition in self.needed.keys() | other.needed.keys()
        }
        return Positions(highest)

    def missing(self, applied: Mapping[int, int]) -> dict[int, int]:
        """How many commands of each partition are not applied yet.

        Args:
            applied: the offset below which everything is applied, of each partition where anything is.
        """
        behind = {partition: needed - applied.get(partition, 0) for partition, needed in self.needed.items()}
        return {partition: count for partition, count in sorted(behind.items()) if count > 0}

    def reached_by(self, applied: Mapping[int, int]) -> bool:
        """Whether what has applied so much is at least this fresh."""
        return not self.missing(applied)
