"""`assessmentstore dev`: all on one machine, with a compliance server that looks at the very services it runs on."""

from __future__ import annotations
