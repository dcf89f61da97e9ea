"""The pure core: types, state machine and CloudEvents mapping; no I/O, and no library but pydantic and orjson."""

from __future__ import annotations
