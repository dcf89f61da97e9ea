"""The HTTP face: commands go to Kafka and their outcome comes back, reads come from the caches and Postgres."""

from __future__ import annotations
