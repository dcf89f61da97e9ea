"""Checkpoints: a signed word about all rows of one command partition so far."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

import orjson

from .base import JsonObject
from .canonical import canonical

Verifier = Callable[[str, bytes, bytes], bool]
"""Whether a signature over a message is by the key with this id, which is one of those that are trusted."""

# No signature over anything else can pass for one over a checkpoint.
_SIGNED_AS = b"assessmentstore audit checkpoint 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says."""

    topic: str
    """The commands topic: which installation it speaks of."""
    partition: int
    sequence: int
    """1, 2, 3 and so on in each partition."""
    count: int
    """Rows so far: the leaves of the tree."""
    root: bytes
    """The root of the Merkle tree over the hashes of all rows, in the order of their offsets."""
    first_offset: int
    """Where the commands begin that the checkpoint before does not know."""
    end_offset: int
    """Every row of a command below this offset is in the tree."""
    created_at: str
    previous_hash: bytes | None
    """The hash of the checkpoint before."""
    key_id: str
    signature: bytes = b""
    """By the key, over all of the above (Ed25519)."""

    @property
    def statement(self) -> JsonObject:
        """All but the signature."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "sequence": self.sequence,
            "count": self.count,
            "root": self.root.hex(),
            "firstOffset": self.first_offset,
            "endOffset": self.end_offset,
            "createdAt": self.created_at,
            "previousHash": None if self.previous_hash is None else self.previous_hash.hex(),
            "keyId": self.key_id,
        }

    @property
    def message(self) -> bytes:
        """What is signed."""
        return _SIGNED_AS + canonical(self.statement)

    @property
    def hash(self) -> bytes:
        """What the next checkpoint names."""
        return sha256(canonical(self.statement)).digest()

    def to_wire(self) -> JsonObject:
        """The checkpoint as JSON."""
        return self.statement | {"signature": base64.b64encode(self.signature).decode()}

    def to_json(self) -> bytes:
        """The JSON of `to_wire`."""
        return orjson.dumps(self.to_wire())

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_wire` wrote.

        Raises:
            ValueError: it is no checkpoint.
        """
        try:
            found = cls(
                topic=_of(str, data["topic"]),
                partition=_of(int, data["partition"]),
                sequence=_of(int, data["sequence"]),
                count=_of(int, data["count"]),
                root=bytes.fromhex(data["root"]),
                first_offset=_of(int, data["firstOffset"]),
                end_offset=_of(int, data["endOffset"]),
                created_at=_of(str, data["createdAt"]),
                previous_hash=None if data["previousHash"] is None else bytes.fromhex(data["previousHash"]),
                key_id=_of(str, data["keyId"]),
                signature=base64.b64decode(data["signature"], validate=True),
            )
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise ValueError(f"it is no checkpoint: {error!r}") from error
        # What is not said in exactly these words is not what was signed.
        if found.to_wire() != data:
            raise ValueError("it says more than a checkpoint, or in other words")
        return found

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is no checkpoint.
        """
        return cls.from_wire(orjson.loads(data))


def _of(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
