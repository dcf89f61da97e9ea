"""A Merkle tree that only grows (RFC 6962, SHA-256): its root, its frontier, and proofs that a leaf is in it.

The frontier is the roots of the largest full subtrees from left to right, one for each 1 in the binary digits of the
count: all that is needed to add leaves, and to prove those that were added since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

HASH_BYTES = 32

_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(content: bytes) -> bytes:
    """The hash of a leaf; no leaf can pass for an inner node."""
    return sha256(_LEAF + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of so many leaves, as far as it has to be known to go on."""

    count: int = 0
    roots: tuple[bytes, ...] = ()

    def add(self, contents: Sequence[bytes]) -> Frontier:
        """The tree with more leaves at its end."""
        count, roots = self.count, list(self.roots)
        for content in contents:
            node, size = leaf_hash(content), count
            while size & 1:
                node = node_hash(roots.pop(), node)
                size >>= 1
            roots.append(node)
            count += 1
        return Frontier(count, tuple(roots))

    @property
    def root(self) -> bytes:
        """The root of the whole tree."""
        if not self.roots:
            return sha256().digest()
        *rest, root = self.roots
        for left in reversed(rest):
            root = node_hash(left, root)
        return root

    def subtrees(self) -> dict[tuple[int, int], bytes]:
        """The full subtrees, by their first leaf and the one after their last."""
        found, start = {}, 0
        for bit, root in zip(_ones(self.count), self.roots, strict=True):
            found[start, start + bit] = root
            start += bit
        return found


def _ones(count: int) -> list[int]:
    """The powers of two that a number is the sum of, the largest first."""
    return [1 << place for place in reversed(range(count.bit_length())) if count >> place & 1]


class Prover:
    """Proofs for the leaves that were added to a frontier."""

    def __init__(self, before: Frontier, contents: Sequence[bytes]) -> None:
        self._first = before.count
        self.end = before.count + len(contents)
        self._nodes = before.subtrees()
        self._nodes |= {
            (before.count + place, before.count + place + 1): leaf_hash(content)
            for place, content in enumerate(contents)
        }

    def path(self, index: int) -> list[bytes]:
        """The siblings of a leaf, from the bottom up.

        Raises:
            IndexError: it is not one of those that were added.
        """
        if not self._first <= index < self.end:
            raise IndexError(f"leaf {index} is not between {self._first} and {self.end - 1}")
        found: list[bytes] = []
        start, end = 0, self.end
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                found.append(self._node(middle, end))
                end = middle
            else:
                found.append(self._node(start, middle))
                start = middle
        return found[::-1]

    def _node(self, start: int, end: int) -> bytes:
        node = self._nodes.get((start, end))
        if node is None:
            middle = start + _split(end - start)
            node = self._nodes[start, end] = node_hash(self._node(start, middle), self._node(middle, end))
        return node


def _split(size: int) -> int:
    """The largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1


def root_by_path(content: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a leaf and its siblings lead to, or nothing where there are not as many as there have to be."""
    if not 0 <= index < count:
        return None
    node, place, last, left = leaf_hash(content), index, count - 1, list(path)
    while last:
        if place & 1 or place < last:
            if not left:
                return None
            sibling = left.pop(0)
            node = node_hash(sibling, node) if place & 1 else node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    return None if left else node
