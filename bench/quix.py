"""Contender: Quix Streams with its exactly-once guarantee, on the same commands, with the same events.

Its state stands in RocksDB, one value for each assessment, with a changelog topic, and nowhere else: there is no
database, no audit trail, and nothing to search. State, changelog, events and positions are one Kafka transaction for
each checkpoint. It trusts every byte, as the bare loop does.

Run as `python -m bench.quix` in the environment that `make quix` makes, which has nothing of the product: so the
settings are read here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from quixstreams import Application, State

from . import fold

# A checkpoint is a flush and a transaction. Its own default of 5 s would have the last commands of a backlog wait for
# the clock; of 0.1 to 1 s, the rate hardly depends on it.
_CHECKPOINT_SECONDS = 0.1

# How late a checkpoint may be where nothing comes.
_POLL_SECONDS = 0.02


def apply(command: dict[str, Any], state: State) -> tuple[dict[str, Any], str]:
    """Change an assessment, and tell its event with the caller's trace."""
    now = datetime.now(UTC)
    before = _restored(state.get("assessment"))
    after, extra = fold.change(before, command, now)
    state.set("assessment", _stored(after))
    return fold.event(command, before, after, extra, now.isoformat()), command["traceparent"]


def _stored(state: fold.State) -> list[Any]:
    *rest, created, started = state
    return [*rest, created.isoformat(), started and started.isoformat()]


def _restored(stored: list[Any] | None) -> fold.State | None:
    if stored is None:
        return None
    version, state, progress, message, created, started = stored
    moments = datetime.fromisoformat(created), started and datetime.fromisoformat(started)
    return version, state, progress, message, *moments


def application(environment: Mapping[str, str]) -> Application:
    """Put the application together."""

    def setting(name: str) -> str:
        return environment["ASSESSMENTSTORE_" + name]

    prefix = setting("TOPIC_PREFIX")
    application = Application(
        broker_address=setting("KAFKA_BOOTSTRAP"),
        consumer_group=f"{prefix}assessmentstore",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=_CHECKPOINT_SECONDS,
        consumer_poll_timeout=_POLL_SECONDS,
        consumer_extra_config={"session.timeout.ms": int(setting("SESSION_TIMEOUT")) * 1000},
        state_dir=setting("DATA_DIR"),
        loglevel="WARNING",
    )
    commands = application.topic(f"{prefix}assessment.commands", value_deserializer="json")
    events = application.topic(f"{prefix}assessment.events", value_serializer="json")
    frame = application.dataframe(commands).apply(apply, stateful=True)
    frame = frame.set_headers(lambda told, *_: fold.headers(*told)).apply(lambda told: told[0])
    frame.to_topic(events)
    return application


if __name__ == "__main__":
    application(os.environ).run()
