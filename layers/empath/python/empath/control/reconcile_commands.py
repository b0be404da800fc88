"""`empathctl reconcile`: spool, ledger and queues compared, and put right."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from empath.control.documents import Document, listing_document
from empath.control.errors import FAILED
from empath.control.options import AsJson, StateDir, new_console, print_json
from empath.control.queue_reading import Depth, read_depths
from empath.control.render import plain
from empath.control.target import DEFAULT_STATE_DIR, Target, find_target
from empath.domain.instant import format_instant
from empath.pipeline.discrepancies import Kind
from empath.pipeline.reconcile import PATIENCE, Checked, Outcome, Reconciliation, Result, Tally

if TYPE_CHECKING:
    from empath.aws.session import AwsSession
    from empath.ports.lost_changes import LostChangesQueue

WORDS: Mapping[Kind, str] = {
    Kind.UNKNOWN_OBJECT: "raw objects without a message",
    Kind.SETTLED_OBJECT: "raw objects of settled messages",
    Kind.UNFINISHED_UPLOAD: "unfinished uploads",
    Kind.LOST_JOB: "open deliveries without a job",
    Kind.OWED_REPORT: "owed reports that nobody writes",
    Kind.NOT_SETTLED: "messages that ended and are not settled",
    Kind.INCOMPLETE_MESSAGE: "messages without all of their deliveries",
    Kind.STRAY_DELIVERY: "open deliveries without a message",
    Kind.UNREADABLE_ITEM: "items that cannot be read",
    Kind.LOST_CHANGES: "changes that the journal gave up on",
}

ABOUT_QUEUES = frozenset({Kind.UNKNOWN_OBJECT, Kind.LOST_JOB, Kind.OWED_REPORT, Kind.INCOMPLETE_MESSAGE})
"""What a job may still put right that waits in a queue."""

WHAT = "spool, ledger and queues"

_MINUTES = int(PATIENCE.total_seconds() // 60)


def reconcile(
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    older_than: Annotated[
        int, typer.Option(min=1, metavar="MINUTES", help="What is later than that counts as lost.")
    ] = _MINUTES,
    show: Annotated[int, typer.Option(min=0, max=10_000, help="Findings shown of each kind.")] = 5,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Compare spool, ledger and queues, while mail flows. Exits with 1 when anything amiss remains."""
    target, tally = find_target(state_dir), Tally(keep=show)
    patience = timedelta(minutes=older_than)

    async def run() -> Checked:
        async with reconciliation(target) as stage:
            if not repair:
                return await stage.run(tally.note, patience=patience)
            async with target.operator_log() as log, log.entry("reconcile --repair", WHAT) as line:
                checked = await stage.run(tally.note, repair=True, patience=patience)
                line.after = summary(tally)
                return checked

    checked = asyncio.run(run())
    depths = read_depths(target)
    if as_json:
        print_json(tally_document(tally, checked, depths, repair=repair, patience=patience))
    else:
        show_tally(new_console(), tally, checked, depths, repair=repair)
    if tally.remains:
        raise typer.Exit(FAILED)


@asynccontextmanager
async def reconciliation(target: Target) -> AsyncIterator[Reconciliation]:
    """The stage over what `target` keeps. Raises ControlError."""
    from empath.aws.control import DynamoControl
    from empath.aws.inventory import AwsInventory
    from empath.aws.ledger import DynamoLedger
    from empath.aws.queue import SqsJobQueue
    from empath.aws.session import AwsSession
    from empath.aws.spool import S3Spool
    from empath.observe.metrics import EmfMetrics
    from empath.system import SystemClock

    bucket, table = target.output("SpoolBucket"), target.output("DeliveriesTable")
    urls = {queue: url for (queue, is_dead), url in target.queue_urls().items() if not is_dead}
    async with AwsSession(None, **target.client_arguments) as session:
        s3, dynamodb = await session.s3(), await session.dynamodb()
        yield Reconciliation(
            inventory=AwsInventory(s3, bucket, dynamodb, table),
            spool=S3Spool(s3, bucket),
            queue=SqsJobQueue(await session.sqs(), urls),
            ledger=DynamoLedger(dynamodb, table),
            clock=SystemClock(),
            lost_changes=await _lost_changes(target, session),
            control=DynamoControl(
                dynamodb, target.output("ControlTable"), clock=SystemClock(), metrics=EmfMetrics("empathctl")
            ),
        )


async def _lost_changes(target: Target, session: AwsSession) -> LostChangesQueue | None:
    """None where there is no journal to give them to."""
    from empath.aws.lost_changes import AwsLostChanges

    if "JournalFunction" not in target.outputs:
        return None
    return AwsLostChanges(
        await session.sqs(),
        target.output("JournalDeadLetterQueueUrl"),
        await session.dynamodbstreams(),
        await session.functions(),
        target.output("JournalFunction"),
    )


def summary(tally: Tally) -> str:
    """What a repair did, in a line: `lost_job: 3 repaired; unknown_object: 1 left`."""
    parts = []
    for kind in Kind:
        outcomes = tally.counts.get(kind, Counter()).items()
        if outcomes:
            parts.append(f"{kind}: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes)))
    return "; ".join(parts) or "nothing amiss"


def tally_document(
    tally: Tally, checked: Checked, depths: Sequence[Depth], *, repair: bool, patience: timedelta
) -> Document:
    return {
        "repair": repair,
        "older_than": int(patience.total_seconds()),
        "clean": not tally.remains,
        "checked": {"items": checked.items, "objects": checked.objects, "uploads": checked.uploads},
        "findings": [
            {
                "kind": kind.value,
                "found": tally.counts.get(kind, Counter()).total(),
                **{
                    outcome.value: tally.counts.get(kind, Counter())[outcome]
                    for outcome in Outcome
                    if outcome is not Outcome.FOUND
                },
                "first": [_result_document(result) for result in tally.first.get(kind, [])],
            }
            for kind in Kind
        ],
        "queues": listing_document([], depths, has_more=False)["queues"],
    }


def _result_document(result: Result) -> Document:
    finding = result.finding
    return {
        "message_id": finding.message_id,
        "delivery": finding.delivery,
        "since": format_instant(finding.since) if finding.since is not None else None,
        "detail": finding.detail,
        "repairable": finding.is_repairable,
        "outcome": result.outcome.value,
        "error": result.error,
    }


def show_tally(
    console: Console, tally: Tally, checked: Checked, depths: Sequence[Depth], *, repair: bool
) -> None:
    for kind in Kind:
        count = tally.counts.get(kind)
        if not count:
            continue
        told = f"{WORDS[kind]}: {count.total()}"
        if repair:
            told += "".join(
                f", {words} {count[outcome]}" for outcome, words in _OUTCOMES.items() if count[outcome]
            )
        console.print(f"[bold]{told}[/bold]")
        for result in tally.first[kind]:
            console.print(plain(f"  {_told(result)}"))
        if (more := count.total() - len(tally.first[kind])) > 0 and tally.first[kind]:
            console.print(f"  and {more} more")
    if any(kind in ABOUT_QUEUES for kind in tally.counts):
        console.print(_told_depths(depths))
    total = sum(count.total() for count in tally.counts.values())
    repaired = sum(count[Outcome.REPAIRED] for count in tally.counts.values())
    end = f"findings {total}" if total else "nothing amiss"
    if total:
        end += f", put right {repaired}" if repair else "; --repair puts right what can be"
    console.print(
        f"looked at: open items of the ledger {checked.items}, raw objects {checked.objects}, "
        f"uploads {checked.uploads}; {end}"
    )


_OUTCOMES = {
    Outcome.REPAIRED: "put right",
    Outcome.GONE: "too late",
    Outcome.LEFT: "left",
    Outcome.FAILED: "not possible now",
}


def _told(result: Result) -> str:
    finding = result.finding
    since = f"  since {finding.since:%Y-%m-%d %H:%M}" if finding.since is not None else ""
    failed = f" ({result.error})" if result.error else ""
    return f"{finding.target}{since}  {finding.detail}{failed}"


def _told_depths(depths: Sequence[Depth]) -> str:
    """What waits on the queues, for that may still put some of it right."""
    waiting = [
        f"{depth.queue.value}{' (dead letters)' if depth.is_dead else ''} {total}"
        for depth in depths
        if (total := depth.visible + depth.in_flight + depth.delayed)
    ]
    return "jobs on the queues, by SQS's estimate: " + (", ".join(waiting) or "none")
