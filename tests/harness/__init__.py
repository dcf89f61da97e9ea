"""What the slow tests share: real services, workers as processes, load, and a judge who recomputes every outcome."""

from __future__ import annotations
