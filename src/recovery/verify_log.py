"""The log against Postgres: every event against its audit row, and what all of them come to against every state.

    1. Fold    the log of each partition, up to its emitted watermark, into a table on disk; its events are compared
               with the audit rows of the same offsets as they come by
    2. States  every state in Postgres against that; what was applied since is taken from the audit trail, in the same
               moment as the state
    3. Gone    everything that the log has and Postgres has not

The watermark is published with the events below it, and after they were committed: Postgres is never behind it, unless
it lost something. So nothing here depends on when it is looked at, however the store moves meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
from aiokafka import AIOKafkaConsumer

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.canonical import canonical
from ..models.chain import PREVIOUS, entry_of_event
from ..models.comparison import Field, Store, differing
from ..models.events import event_from_json
from ..settings import Settings
from ..store.encryption import KeyRing
from ..store.moment import Moment, one_moment
from ..store.postgres import Pool
from ..store.recovery import RecoveryStore
from ..store.totals import owner_scope
from ..store.truth import Judgement, Truth, Verdict, compare, unreadable
from .findings import Findings
from .log import home_of, open_consumer, read_deletions, read_events, watermarks
from .partitions import for_each
from .progress import Progress
from .records import LoggedEvent
from .scratch import Folded, Scratch

_EVENTS = 1000
_STATES = 500


class LogCheck:
    """One comparison of the log with Postgres."""

    def __init__(
        self, settings: Settings, pool: Pool, scratch: Scratch, findings: Findings, keys: KeyRing, progress: Progress
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._store = RecoveryStore(pool, settings.commands_topic)
        self._scratch = scratch
        self._findings = findings
        self._keys = keys
        self._progress = progress
        self.doubtful: set[str] = set()
        """Assessments that Postgres does not have as the log has them: who is right is for people to say."""

    async def run(self) -> None:
        """Steps 1 to 3.

        Raises:
            RecoveryError: a record cannot be read.
            UnavailableError: Postgres or Kafka is away.
        """
        await self._find_positions()
        await for_each(self._findings.partitions, self._fold)
        self._progress.expect(await self._store.count())
        await self._check_states()
        await self._check_gone()

    def partition_of(self, assessment_id: str) -> int:
        """Where its commands are by the log, else where they would be."""
        known = self._scratch.get([assessment_id]).get(assessment_id)
        return home_of(assessment_id, self._settings.topic_partitions) if known is None else known.partition

    async def _find_positions(self) -> None:
        emitted = await watermarks(self._settings)
        # Kafka forgets a watermark that nobody moves for a week; Postgres has kept it, or a lower one.
        noted, applied = await self._store.published(), await self._store.positions()
        for number, partition in self._findings.partitions.items():
            published, reached = max(emitted.get(number, 0), noted.get(number, 0)), applied.get(number, 0)
            partition.position = min(published, reached)
            if reached < published:
                self._findings.add(Store.POSTGRES, number, None, [Field("/position", published, reached)])

    async def _fold(self, number: int) -> None:
        """Step 1 of one partition."""
        partition = self._findings.partitions[number]
        async with open_consumer(self._settings) as consumer:
            await self._note_deletions(consumer, number)
            begin, batch = None, list[LoggedEvent]()
            async for event in read_events(consumer, self._settings, number, passed=self._progress.passed):
                if event.offset >= partition.position:
                    break
                # A topic that was made anew begins at offset 0 too: what it begins with tells what it lacks.
                if begin is None:
                    begin = partition.log_begins = event.offset
                batch.append(event)
                if len(batch) == _EVENTS:
                    await self._take(number, batch, begin, event.offset + 1)
                    begin, batch = event.offset + 1, []
        if begin is None:
            begin = partition.log_begins = partition.position
        await self._take(number, batch, begin, partition.position)
        await self._tell_older(number, partition.log_begins)

    async def _note_deletions(self, consumer: AIOKafkaConsumer, number: int) -> None:
        async for deletion in read_deletions(consumer, self._settings, number):
            self._scratch.delete(deletion.assessment_id, deletion.last_offset)
        # Those, too, that Kafka has not been told of yet.
        async for deletions in self._store.deletions(number):
            for deletion in deletions:
                self._scratch.delete(deletion.assessment_id, deletion.last_offset)

    async def _tell_older(self, number: int, begins: int) -> None:
        async with one_moment(self._pool) as moment:
            rows = await moment.rows_below(number, begins)
        words = f"partition {number}: the log begins at command {begins}, and {rows} audit rows are older"
        self._findings.cannot_compare(rows, words)

    async def _take(self, number: int, events: Sequence[LoggedEvent], first: int, end: int) -> None:
        """Fold some events, and compare them with the rows of the offsets from `first` to `end` - 1."""
        deleted = self._scratch.deletions({event.event.assessment_id for event in events})
        there = [event for event in events if event.offset > deleted.get(event.event.assessment_id, -1)]
        self._scratch.fold(number, there)
        expected = {event.offset: _entry(event, number) for event in there}
        async with one_moment(self._pool) as moment:
            found = await moment.entries(number, first, end)
            missing = {entry["assessmentId"] for offset, entry in expected.items() if offset not in found}
            now_deleted = await moment.deletions(missing)
        for offset in sorted(expected.keys() | found.keys()):
            self._compare_row(number, offset, expected.get(offset), found.get(offset), now_deleted)

    def _compare_row(
        self, number: int, offset: int, event: JsonObject | None, row: JsonObject | None, deleted: Mapping[str, int]
    ) -> None:
        partition = self._findings.partitions[number]
        if event is None or row is None:
            one = event or row or {}
            key, place, told = one["assessmentId"], f"/auditTrail/{one['newVersion']}", f"command {offset}"
            if event is None:
                partition.add("auditTrail", b"", canonical(one))
                self._differ(number, key, [Field(place, None, told)])
            elif offset > deleted.get(key, -1):
                partition.add("auditTrail", canonical(one), b"")
                self._differ(number, key, [Field(place, told, None)])
            return
        partition.events += 1
        texts = canonical(event), canonical(row)
        partition.add("auditTrail", *texts)
        if texts[0] != texts[1]:
            where = f"/auditTrail/{event['newVersion']}"
            fields = [each._replace(pointer=where + each.pointer) for each in differing(event, row)]
            self._differ(number, event["assessmentId"], fields)
            if row["assessmentId"] != event["assessmentId"]:
                self.doubtful.add(row["assessmentId"])

    async def _check_states(self) -> None:
        """Step 2."""
        last: str | None = ""
        while last is not None:
            async with one_moment(self._pool) as moment:
                last = await self._check_some(moment, last)

    async def _check_some(self, moment: Moment, last: str) -> str | None:
        states = await moment.states_after(last, _STATES)
        log = self._scratch.get(states)
        odd = {key: state for key, state in states.items() if not self._is_as_logged(log.get(key), state)}
        if odd:
            await self._check_odd(moment, odd, log)
        owners = await moment.search_owners(states)
        for key in states.keys() - self.doubtful:
            self._check_search(key, states[key], owners)
        self._progress.passed(len(states))
        return next(reversed(states), None)

    def _is_as_logged(self, folded: Folded | None, truth: Truth) -> bool:
        """Whether a state is what the log says, without a look at anything else."""
        if folded is None or folded.state is None or truth.state is None:
            return False
        judged = compare(folded.state, truth.state)
        if judged.verdict is not Verdict.EQUAL:
            return False
        self._take_judgement(folded.partition, truth.state, judged)
        return True

    async def _check_odd(self, moment: Moment, states: Mapping[str, Truth], log: Mapping[str, Folded]) -> None:
        """Those that are not as the log has them, or that it does not know: they may have moved on."""
        expected = await self._moved_on(moment, list(states), log)
        begins = {number: each.log_begins for number, each in self._findings.partitions.items()}
        before_log = await moment.older_than(begins, states)
        for key, truth in states.items():
            folded = expected.get(key)
            partition = self.partition_of(key) if folded is None else folded.partition
            if folded is not None and folded.state is None:
                self._findings.cannot_compare(1, f"{key}: {folded.unknown}")
            elif folded is None and key in before_log:
                self._findings.cannot_compare(1, f"{key}: it was there before the log begins")
            elif folded is None or folded.state is None or truth.state is None:
                self._findings.partitions[partition].add("states", b"", key.encode())
                told = None if folded is None or folded.state is None else f"version {folded.state.version}"
                there = truth.error if truth.state is None else f"version {truth.state.version}"
                self._differ(partition, key, [Field("", told, there)])
            else:
                self._take_judgement(partition, truth.state, compare(folded.state, truth.state))

    async def _moved_on(self, moment: Moment, keys: Sequence[str], log: Mapping[str, Folded]) -> dict[str, Folded]:
        """What assessments should be now: as the log has them, and what the trail has since."""
        known, deleted = self._scratch.deletions(keys), await moment.deletions(keys)
        now = {key: log[key] for key in keys if key in log and deleted.get(key, -1) <= known.get(key, -1)}
        for number, partition in self._findings.partitions.items():
            for key, value in await moment.events_from(keys, number, partition.position):
                now[key] = _then(now.get(key, Folded(number, None)), value)
        return now

    async def _check_gone(self) -> None:
        """Step 3."""
        for keys in self._scratch.ids(_STATES):
            async with one_moment(self._pool) as moment:
                there = await moment.present(keys)
                gone = [key for key in keys if key not in there]
                expected = await self._moved_on(moment, gone, self._scratch.get(gone)) if gone else {}
            for key, folded in expected.items():
                self._findings.partitions[folded.partition].add("states", key.encode(), b"")
                version = "a state" if folded.state is None else f"version {folded.state.version}"
                self._differ(folded.partition, key, [Field("", version, None)])

    def _take_judgement(self, partition: int, state: AssessmentRecord, judged: Judgement) -> None:
        key = state.assessment_id
        self._findings.partitions[partition].add("states", judged.expected, judged.found)
        if judged.verdict is not Verdict.EQUAL:
            self._differ(partition, key, judged.fields)
        # Without any key nothing is opened: digests tell enough.
        if self._keys and (without_key := self._keys.missing_of(state)):
            self._findings.cannot_compare(1, f"{key}: a payload is under the key {without_key}, which is not here")
        elif fields := unreadable(state, self._keys):
            self._differ(partition, key, fields)

    def _check_search(self, key: str, truth: Truth, owners: Mapping[str, str | None]) -> None:
        if truth.state is None:
            return
        owner = owner_scope(truth.state)
        if key not in owners:
            self._findings.add(Store.POSTGRES, self.partition_of(key), key, [Field("/search", "a row", None)])
        elif owners[key] != owner:
            fields = [Field("/search/owner", owner, owners[key])]
            self._findings.add(Store.POSTGRES, self.partition_of(key), key, fields)

    def _differ(self, partition: int, key: str, fields: Sequence[Field]) -> None:
        self.doubtful.add(key)
        self._findings.add(Store.POSTGRES, partition, key, fields)


def _entry(event: LoggedEvent, partition: int) -> JsonObject:
    details = orjson.loads(event.value)
    entry = entry_of_event(event.event, details, event.header, partition=partition, offset=event.offset, previous=None)
    del entry[PREVIOUS]
    return entry


def _then(folded: Folded, value: str) -> Folded:
    """After one row of the trail more."""
    try:
        return folded.then(event_from_json(value))
    except ValueError as error:
        return Folded(folded.partition, None, f"a row of its trail cannot be read: {error}")
