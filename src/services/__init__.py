"""Real Kafka, Postgres and Redis for one machine.

`up` takes each from the environment, else from Docker, else starts it as a local process that outlives the caller;
`found` tells what is there; `down` stops what `up` started. One service alone: `down(settings, only=["kafka"])`, and
`up(settings, only=["kafka"])` brings it back on the same address and data.
"""

from __future__ import annotations

from .manager import down, found, up
from .model import NAMES, Name, Service, Services, ServicesError

__all__ = ["NAMES", "Name", "Service", "Services", "ServicesError", "down", "found", "up"]
