"""The move from the old system, an EventEmitter in Node: what it says in our words, and who serves which id."""

from __future__ import annotations
