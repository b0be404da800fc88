"""Spool, ledger and queues compared, and what does not fit together put right, while the relay runs.

    pages of what is stored    hints, eventually consistent; nearly all of it is as it should be
    the story of a suspect     read again, consistently, and judged by the same rules (`discrepancies`)
    its repair                 what a worker would have done: a job that may come twice, a conditional write,
                               the deletion of content that nobody can need any more

So whatever the relay does between two of these steps, a repair is at worst done twice. Memory is bounded by
the pages under way. What a repair cannot do is make up what nobody knows: an envelope whose job is lost, the
audit lines of changes that the journal gave up on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from itertools import groupby

from empath.domain.delivery_state import State
from empath.domain.errors import Trouble
from empath.domain.records import DeliveryRecord
from empath.pipeline.batch import all_of
from empath.pipeline.conclude import RETENTION
from empath.pipeline.discrepancies import (
    Finding,
    Kind,
    Story,
    foreign_object,
    in_story,
    message_id_of,
    of_changes,
    of_object,
    of_upload,
)
from empath.pipeline.followups import FollowUps, NextAttempt
from empath.pipeline.journal import Journal
from empath.pipeline.lanes import queue_of_first
from empath.pipeline.stage import Stage
from empath.ports import Clock, Control, JobQueue, Ledger, Spool
from empath.ports.inventory import Inventory, Item, Upload
from empath.ports.lost_changes import LostChanges, LostChangesQueue

PATIENCE = timedelta(hours=1)
"""How late something may be, if nobody says otherwise: longer than delays of queues, retries of functions and
a deployment together, short enough for a person who waits."""

SEGMENTS = 4
"""Parts of the ledger that are read at the same time."""

AT_ONCE = 20
"""Suspects that are looked into at the same time."""


class Outcome(StrEnum):
    FOUND = "found"
    REPAIRED = "repaired"
    GONE = "gone"
    """Too late: what could be made up is put right, the rest is lost, and nothing more can be done."""
    LEFT = "left"
    """Nothing is to be done about it yet, or by a program at all."""
    FAILED = "failed"
    """A store did not answer; the next run tries again."""


@dataclass(frozen=True, slots=True)
class Result:
    finding: Finding
    outcome: Outcome
    error: str | None = None


Note = Callable[[Result], None]
Repair = Callable[[], Awaitable[Outcome | None]]


@dataclass(slots=True)
class Checked:
    """How much a run has looked at."""

    items: int = 0
    """Items of the ledger that are not closed."""
    objects: int = 0
    uploads: int = 0


@dataclass(slots=True)
class Tally:
    """What a run has found: every finding counted, the first few of each kind kept."""

    keep: int = 5
    counts: dict[Kind, Counter[Outcome]] = field(default_factory=dict)
    first: dict[Kind, list[Result]] = field(default_factory=dict)

    def note(self, result: Result) -> None:
        kind = result.finding.kind
        self.counts.setdefault(kind, Counter())[result.outcome] += 1
        kept = self.first.setdefault(kind, [])
        if len(kept) < self.keep:
            kept.append(result)

    @property
    def remains(self) -> bool:
        """Whether anything was found that is not put right."""
        done = (Outcome.REPAIRED, Outcome.GONE)
        return any(count.total() > sum(count[outcome] for outcome in done) for count in self.counts.values())


@dataclass(frozen=True, slots=True)
class _Run:
    """The settings of one run."""

    repair: bool
    patience: timedelta
    note: Note
    checked: Checked
    turns: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class Reconciliation(Stage):
    inventory: Inventory
    spool: Spool
    queue: JobQueue
    ledger: Ledger
    clock: Clock
    lost_changes: LostChangesQueue | None = None
    """None: what the journal gave up on is not looked at."""
    control: Control | None = None
    """Whose content policies count."""

    async def run(self, note: Note, *, repair: bool = False, patience: timedelta = PATIENCE) -> Checked:
        """Tell `note` of everything that is not as it should be, and with `repair` what became of it.

        Raises SpoolTrouble, LedgerTrouble or QueueTrouble when something cannot be read; what was repaired by
        then stays so, and the next run finds the rest.
        """
        run = _Run(repair, patience, note, Checked(), asyncio.Semaphore(AT_ONCE))
        # The ledger first: what it settles leaves no objects behind.
        await all_of(self._ledger(segment, run) for segment in range(SEGMENTS))
        await self._objects(run)
        await self._uploads(run)
        await self._lost_changes(run)
        return run.checked

    async def _ledger(self, segment: int, run: _Run) -> None:
        held: list[Item] = []
        async for page in self.inventory.unclosed(segment, SEGMENTS):
            run.checked.items += len(page)
            # A message's items follow each other; those of the last one may go on in the next page.
            *whole, held = _by_message([*held, *page]) if held or page else [[]]
            await all_of(self._suspect(group, run) for group in whole)
        if held:
            await self._suspect(held, run)

    async def _suspect(self, group: Sequence[Item], run: _Run) -> None:
        """Look into a message if its items, as they were read, are not as they should be."""
        hint = Story.of(group[0].message_id, group)
        if not any(in_story(hint, now=self.clock.now(), patience=run.patience)):
            return
        async with run.turns:
            story = await self._story(hint.message_id)
            if hint.message is None and not hint.unreadable and _comes_by_itself(story):
                return
            for finding in in_story(story, now=self.clock.now(), patience=run.patience):
                await self._treat(finding, partial(self._mend, finding, story), run)

    async def _objects(self, run: _Run) -> None:
        async for page in self.inventory.objects():
            run.checked.objects += len(page)
            late = self.clock.now() - run.patience
            ours = {
                message_id: found
                for found in page
                if (message_id := message_id_of(found.key)) is not None and found.stored_at <= late
            }
            closed = await self.inventory.closed(ours)
            await all_of(
                self._object(message_id, found.key, run)
                for message_id, found in ours.items()
                # What is on its way needs its object; what is closed or not known is suspect.
                if closed.get(message_id) is not False
            )
            for found in page:
                if message_id_of(found.key) is None:
                    await self._treat(foreign_object(found), _nothing, run)

    async def _object(self, message_id: str, key: str, run: _Run) -> None:
        async with run.turns:
            story = await self._story(message_id)
            # Read after the ledger: what was deleted until now is no finding, and what was put back is new.
            known = await self.inventory.object(key)
            if known is None:
                return
            finding = of_object(known, story, now=self.clock.now(), patience=run.patience)
            if finding is not None:
                await self._treat(finding, partial(self.spool.delete, key), run)

    async def _uploads(self, run: _Run) -> None:
        async for page in self.inventory.uploads():
            run.checked.uploads += len(page)
            await all_of(self._upload(upload, run) for upload in page)

    async def _upload(self, upload: Upload, run: _Run) -> None:
        finding = of_upload(upload, now=self.clock.now())
        if finding is not None:
            async with run.turns:
                await self._treat(finding, partial(self.inventory.give_up, upload), run)

    async def _lost_changes(self, run: _Run) -> None:
        """Last, for what these changes settle is settled by now, whether the stream still has them or not."""
        queue = self.lost_changes
        if queue is None:
            return

        async def replay(lost: LostChanges) -> Outcome:
            has_them = await queue.replay(lost)
            await queue.forget(lost)
            return Outcome.REPAIRED if has_them else Outcome.GONE

        seen: set[str] = set()
        while new := [lost for lost in await queue.receive() if lost.name not in seen]:
            for lost in new:
                seen.add(lost.name)
                await self._treat(of_changes(lost), partial(replay, lost), run)

    async def _story(self, message_id: str) -> Story:
        return Story.of(message_id, await self.inventory.story(message_id))

    async def _treat(self, finding: Finding, repair: Repair, run: _Run) -> None:
        if not run.repair:
            run.note(Result(finding, Outcome.FOUND))
        elif not finding.is_repairable:
            run.note(Result(finding, Outcome.LEFT))
        else:
            try:
                outcome = await repair()
            except (Trouble, ValueError) as error:
                # ValueError: a key that no job can have.
                run.note(Result(finding, Outcome.FAILED, str(error)))
            else:
                run.note(Result(finding, outcome or Outcome.REPAIRED))

    async def _mend(self, finding: Finding, story: Story) -> None:
        """Do what should have been done; `story` was read a moment ago."""
        match finding.kind:
            case Kind.LOST_JOB:
                await self._wake(_delivery(finding, story), story)
            case Kind.OWED_REPORT:
                follow_ups = FollowUps(self.queue, self.ledger)
                await follow_ups.report(_delivery(finding, story), trace_header=_trace_header(story))
            case Kind.NOT_SETTLED:
                await self._settle(story)
            case Kind.INCOMPLETE_MESSAGE:
                await self._close(story)

    async def _wake(self, record: DeliveryRecord, story: Story) -> None:
        """Send the job that should have come. A copy that still comes, too, is stale or finds a lease."""
        now = self.clock.now()
        attempt = NextAttempt.of(record, record.next_attempt_at or now)
        queue = queue_of_first(record.priority) if record.status is State.QUEUED else attempt.queue
        await self.queue.send(queue, [attempt.outgoing(now, _trace_header(story))])
        await FollowUps(self.queue, self.ledger).mark_queued(attempt, now=now)

    async def _settle(self, story: Story) -> None:
        """What the journal would have done."""
        journal = Journal(self.spool, self.ledger, self.clock, self.control)
        settled = story.message.settled if story.message is not None else frozenset()
        for record in story.deliveries:
            if record.delivery not in settled:
                await journal.note(None, record)
        if story.message is not None and story.message.is_settled:
            await self._close(story)

    async def _close(self, story: Story) -> None:
        message = story.message
        if message is None:
            return
        if message.is_settled and story.deliveries:
            # Counted again, which changes nothing, and then let go of as it should have been.
            await Journal(self.spool, self.ledger, self.clock, self.control).note(None, story.deliveries[0])
            return
        if self.control is not None:
            policy = (await self.control.tenant_policy(message.tenant)).content
            if policy.keep != "none":
                # Who got it is forgotten, so it may be content of mail that failed.
                await self.spool.keep(message.spool_key, policy.days)
        await self.spool.delete(message.spool_key)
        await self.ledger.close(message.message_id, forget_at=self.clock.now() + RETENTION)


def _by_message(items: Sequence[Item]) -> list[list[Item]]:
    return [list(group) for _, group in groupby(items, key=lambda item: item.message_id)]


def _comes_by_itself(story: Story) -> bool:
    """Whether the ledger's pages show the message itself, too, which leads here once."""
    return bool(story.unreadable) or (story.message is not None and story.message.forget_at is None)


async def _nothing() -> None:
    """There is nothing to be done."""


def _delivery(finding: Finding, story: Story) -> DeliveryRecord:
    return next(record for record in story.deliveries if record.delivery == finding.delivery)


def _trace_header(story: Story) -> str | None:
    return story.message.trace_header if story.message is not None else None
