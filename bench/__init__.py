"""The benchmark: one worker with everything on, beside a transaction per message and bare loops.

`python -m bench` runs them in turns on the same machine, services and backlog, and prints rates, latencies, memory and
where the time goes. It measures; only with `--check` it judges.
"""

from __future__ import annotations
