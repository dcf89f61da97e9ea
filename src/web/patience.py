"""Waiting no longer than promised, as the web has always called it."""

from __future__ import annotations

from ..store.patience import within

__all__ = ["within"]
