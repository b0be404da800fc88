"""The mark before the octets that may make a next hop take the message (`before_commit`), through every way a
transaction is sent again: on a new connection where a kept one was dead, without an extension that broke, for
further recipients.

    marked    before anything that could be taken left, each time
    doubt     the mark, and an end that nobody heard: never sent again, held where policy says so
    clean     a mark whose transaction certainly came to nothing: sent again, and no doubt about it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from empath.domain.errors import LedgerTrouble
from empath.net.pool import ConnectionPool
from empath.pipeline import ambiguity
from empath.pipeline.conclude import AttemptResult
from empath.ports import Transaction, TransactionResult
from empath.testing.clock import ManualClock
from empath.testing.memory_ledger import MemoryLedger
from empath.testing.metrics import CountedMetrics
from empath.testing.smtp_sink import DROP, RESET, STALL, TAKE_AND_DROP, Act, Script, SmtpSink, Step
from tests.contracts.ledger_samples import new_delivery, new_message
from tests.unit.net.sending import ANN, BOB, CONTENT, dialer, endpoint, shorts, transaction

WAYS: dict[str, tuple[str, ...]] = {
    "one by one": (),
    "pipelining": ("PIPELINING",),
    "chunking": ("CHUNKING",),
    "one flight": ("PIPELINING", "CHUNKING"),
}
FAULTS: dict[str, Step] = {
    "refuse": "550 5.7.1 No",
    "defer": "450 4.2.1 Later",
    "hang up": Act("421 4.4.2 Idle for too long", then="close"),
    "drop": DROP,
    "reset": RESET,
    "stall": STALL,
    "garbage": b"\x00 what?\r\n",
    "take and drop": TAKE_AND_DROP,
}


class Marked:
    """Sends messages by a pool, and notes what the next hop had taken whenever the mark was made."""

    def __init__(self, sink: SmtpSink) -> None:
        self.sink, self.clock = sink, ManualClock()
        self.pool = ConnectionPool(dialer(), self.clock, CountedMetrics())
        self.marks: list[int] = []
        self.fails: Callable[[int], bool] = lambda number: False

    async def mark(self) -> None:
        self.marks.append(len(self.sink.messages))
        if self.fails(len(self.marks)):
            raise LedgerTrouble("the ledger is away")

    async def send(self, mail: Transaction | None = None) -> TransactionResult:
        channel = await self.pool.connect(endpoint(self.sink), deadline=20)
        try:
            mail = mail or transaction(CONTENT, [ANN])
            return await channel.transact(replace(mail, before_commit=self.mark))
        finally:
            await channel.close()


def verdicts(result: TransactionResult) -> dict[str, str]:
    """What policy `hold` makes of it."""
    attempt = AttemptResult(result.outcomes, "mx", None, result.ambiguous)
    decided = ambiguity.decided(attempt, "hold")
    return shorts(TransactionResult(decided.outcomes))


STAGES = ("RSET", "MAIL", "RCPT", "DATA", "BDAT", "content", "message")
# Silence costs time, and is met at other stages in `test_pool`.
MET = [(stage, fault) for stage in STAGES for fault in FAULTS if fault != "stall" or stage == "message"]


@pytest.mark.parametrize("is_reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize(("stage", "fault"), MET)
@pytest.mark.parametrize("way", WAYS)
async def test_the_mark_is_there_before_and_doubt_only_where_something_may_have_been_taken(
    way: str, fault: str, stage: str, is_reused: bool
) -> None:
    async with SmtpSink(extensions=WAYS[way]) as sink:
        sending = Marked(sink)
        if is_reused:
            assert shorts(await sending.send()) == {ANN: "sent 250"}
        known, marks_known = len(sink.messages), len(sending.marks)
        sink.script[stage] = [FAULTS[fault]]
        result = await sending.send()
        await sending.pool.close()
    whole, marks = sink.messages[known:], sending.marks[marks_known:]
    taken = [message for message in whole if message.accepted]
    # As often as content came to its end there was a mark before it.
    assert len(marks) >= len(whole)
    assert all(before <= known + number for number, before in enumerate(marks[: len(whole)]))
    if result.ambiguous:
        assert len(whole) <= 1
        assert verdicts(result) == {ANN: "held 451 ambiguous"}
    else:
        assert verdicts(result) == shorts(result)
        assert len(taken) == (shorts(result) == {ANN: "sent 250"})


@pytest.mark.parametrize("way", ["chunking", "one flight"])
async def test_an_extension_that_is_refused_leaves_no_doubt_behind(way: str) -> None:
    async with SmtpSink({"BDAT": "502 5.5.1 No such command"}, extensions=WAYS[way]) as sink:
        sending = Marked(sink)
        result = await sending.send()
        await sending.pool.close()
    assert (shorts(result), result.ambiguous) == ({ANN: "sent 250"}, False)
    assert [message.recipients for message in sink.accepted] == [(ANN,)]
    assert len(sending.marks) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_without_the_second_mark_the_message_is_not_sent_again(way: str) -> None:
    """A kept connection turns out to be dead, and meanwhile the ledger is away."""
    async with SmtpSink(extensions=WAYS[way]) as sink:
        sending = Marked(sink)
        assert shorts(await sending.send()) == {ANN: "sent 250"}
        sink.script["MAIL"] = [Act("421 4.4.2 Enough", then="close")]
        before = len(sending.marks)
        first = before + 1 if way == "one flight" else before
        sending.fails = lambda number: number == first + 1
        with pytest.raises(LedgerTrouble):
            await sending.send()
        await sending.pool.close()
    assert len(sink.accepted) == 1
    assert len(sending.marks) == first + 1


async def test_the_ledger_is_told_once_however_often_the_message_is_sent_again() -> None:
    class Counting(MemoryLedger):
        calls = 0

        async def mark_committing(self, *_: object, **__: object) -> None:
            self.calls += 1

    ledger = Counting()
    mark = ambiguity.marker(ledger, ManualClock(), new_delivery(new_message()), owner="a", policy="hold")
    assert mark is not None
    async with SmtpSink({"BDAT": "502 5.5.1 No"}, extensions=WAYS["one flight"]) as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        result = await channel.transact(replace(transaction(CONTENT, [ANN]), before_commit=mark))
        await channel.close()
    assert shorts(result) == {ANN: "sent 250"}
    assert ledger.calls == 1


@pytest.mark.parametrize("doubted", [ANN, BOB])
@pytest.mark.parametrize("then", ["drop", "stall", "hang up", "garbage"])
async def test_doubt_about_some_recipients_is_no_doubt_about_those_of_another_transaction(
    then: str, doubted: str
) -> None:
    """RCPTMAX makes a transaction of each."""
    other = BOB if doubted == ANN else ANN
    clean: list[Step] = [FAULTS[then]]
    script: Script = {
        "message": [TAKE_AND_DROP],
        "MAIL": ["250 Ok", *clean * 5] if doubted == ANN else clean,
    }
    async with SmtpSink(script, extensions=("LIMITS RCPTMAX=1",)) as sink:
        sending = Marked(sink)
        result = await sending.send(transaction(CONTENT, [ANN, BOB]))
        await sending.pool.close()
    told = verdicts(result)
    assert (result.ambiguous, told[doubted]) == (True, "held 451 ambiguous")
    assert told[other].startswith("deferred")
    assert all(message.recipients == (doubted,) for message in sink.messages)
