"""Who serves an assessment: sticky by its id, so that all that is asked of one goes to one system."""

from __future__ import annotations

from hashlib import sha256

BUCKETS = 100


def bucket(assessment_id: str) -> int:
    """The place of an id among 100: the first four bytes of its SHA-256, as a big-endian number, modulo 100.

    The same in any language; docs/migration.md has examples to test against.
    """
    return int.from_bytes(sha256(assessment_id.encode()).digest()[:4], "big") % BUCKETS


def routes_to_store(assessment_id: str, percentage: int, *, legacy_mode: bool = False) -> bool:
    """Whether the store serves an assessment, or the old system.

    Args:
        assessment_id: which one.
        percentage: of the roll-out, 0 to 100; what the store serves at one percentage it serves at every higher one.
        legacy_mode: whether the old system serves everything.
    """
    return not legacy_mode and bucket(assessment_id) < percentage
