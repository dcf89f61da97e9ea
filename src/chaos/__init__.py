"""Chaos with a judge: load, faults, and whether everybody was told the truth (docs/chaos.md)."""

from __future__ import annotations
