"""Executables that Python packages carry."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def wheel_folder(package: str) -> Path | None:
    """Return the folder of an installed package without importing it, which may be slow, warn, or start something."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None
