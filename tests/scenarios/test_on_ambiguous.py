"""`on_ambiguous`: a worker dies at each line, and only what may have arrived is held or given up."""

from __future__ import annotations

from collections import Counter

import pytest

from empath.domain.delivery_state import State
from empath.domain.errors import LedgerTrouble
from empath.domain.outcome import Deferred
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.domain.reply import Reply
from empath.testing.faults import AFTER, BEFORE, When, WorkerDied
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

SENDER, GOOD, LATE = "ann@a.test", "bob@good.test", "cat@good.test"
SETTLED = {"hold": State.HELD, "fail": State.FAILED}


def relay_with(policy: str, dialer: ScriptedDialer) -> MemoryRelay:
    relay = MemoryRelay(dialer=dialer)
    relay.control.items["good.test"] = {"on_ambiguous": policy}
    return relay


async def run(relay: MemoryRelay) -> DeliveryRecord:
    """Until the delivery waits for nobody but an operator."""
    message_id = await relay.submit(SENDER, [GOOD])

    def settled() -> bool:
        records = [record for record in relay.ledger.all_deliveries() if record.message_id == message_id]
        return bool(records) and all(record.is_settled or record.status is State.HELD for record in records)

    await relay.run(until=settled)
    [record] = await relay.ledger.deliveries(message_id)
    return record


def copies(dialer: ScriptedDialer) -> int:
    return Counter(to for message in dialer.messages for to in message.recipients)[GOOD]


@pytest.mark.parametrize("policy", ["hold", "fail"])
@pytest.mark.parametrize(
    ("call", "when", "is_in_doubt"),
    [
        ("ledger.claim", BEFORE, False),
        ("ledger.claim", AFTER, False),
        ("spool.read", BEFORE, False),
        ("ledger.mark_committing", BEFORE, False),
        # Nobody can tell a death right after the mark from one right after the final dot.
        ("ledger.mark_committing", AFTER, True),
        ("ledger.record", BEFORE, True),
        ("ledger.record", AFTER, False),
    ],
)
async def test_a_death_is_ambiguous_from_the_mark_to_the_record_and_nowhere_else(
    policy: str, call: str, when: When, is_in_doubt: bool
) -> None:
    dialer = ScriptedDialer()
    relay = relay_with(policy, dialer)
    relay.faults.fail(call, when=when, error=WorkerDied())
    record = await run(relay)
    assert record.status is (SETTLED[policy] if is_in_doubt else State.SENT)
    assert copies(dialer) <= 1
    if is_in_doubt:
        assert record.recipients[GOOD].reason is Reason.AMBIGUOUS
        assert "may have arrived" in str(record.recipients[GOOD].reply)


@pytest.mark.parametrize("policy", ["hold", "fail"])
async def test_an_answer_that_was_lost_is_in_doubt_although_the_worker_lives(policy: str) -> None:
    dialer = ScriptedDialer()
    dialer.host("good.test").ambiguous = 1
    record = await run(relay_with(policy, dialer))
    assert record.status is SETTLED[policy]
    assert record.attempts[-1].ambiguous
    assert copies(dialer) == 1


@pytest.mark.parametrize("call", ["ledger.claim", "ledger.record"])
async def test_by_default_it_is_tried_again_and_no_mark_is_written(call: str) -> None:
    dialer = ScriptedDialer()
    relay = relay_with("retry", dialer)
    relay.faults.fail(call, error=WorkerDied())
    assert (await run(relay)).status is State.SENT
    assert "ledger.mark_committing" not in relay.faults.calls


@pytest.mark.parametrize("policy", ["hold", "fail"])
async def test_a_mark_that_cannot_be_written_keeps_the_message_back(policy: str) -> None:
    dialer = ScriptedDialer()
    relay = relay_with(policy, dialer)
    relay.faults.fail("ledger.mark_committing", when=AFTER, error=LedgerTrouble("lost answer"))
    record = await run(relay)
    assert record.status is State.SENT
    assert [attempt.reason for attempt in record.attempts] == [Reason.WORKER_FAILED, None]
    assert copies(dialer) == 1


async def test_an_attempt_costs_one_write_more_under_hold_and_only_where_content_went_out() -> None:
    dialer = ScriptedDialer()
    dialer.host("good.test").outcomes[GOOD] = [Deferred(Reply.heard(451, "4.7.1 later"))]
    relay = relay_with("hold", dialer)
    record = await run(relay)
    assert record.status is State.SENT
    assert Counter(relay.faults.calls)["ledger.mark_committing"] == 1
    assert len(record.attempts) == 2


async def test_who_was_told_later_by_the_next_hop_is_tried_again_beside_one_in_doubt() -> None:
    dialer = ScriptedDialer()
    dialer.host("good.test").ambiguous = 1
    dialer.host("good.test").outcomes[LATE] = [Deferred(Reply.heard(452, "4.2.2 full"))]
    relay = relay_with("hold", dialer)
    message_id = await relay.submit(SENDER, [GOOD, LATE])
    await relay.run(until=lambda: State.SENT in relay.states(message_id).values())
    assert relay.states(message_id) == {GOOD: State.HELD, LATE: State.SENT}
    assert copies(dialer) == 1


async def test_the_report_of_what_was_given_up_says_that_it_may_have_arrived() -> None:
    dialer = ScriptedDialer()
    dialer.host("good.test").ambiguous = 1
    relay = relay_with("fail", dialer)
    record = await run(relay)
    await relay.run()
    assert len(relay.reports_of(record.message_id)) == 1
    [report] = [message for message in dialer.messages if message.recipients == (SENDER,)]
    text = b" ".join(report.content.split())
    assert b"may have arrived" in text
    assert b"Status: 5.4.2" in text


async def test_what_a_dead_letter_defers_in_between_does_not_hide_the_doubt() -> None:
    dialer = ScriptedDialer()
    relay = relay_with("hold", dialer)
    relay.faults.fail("ledger.record", error=WorkerDied())
    # Then every worker dies at its claim until the job is a dead letter, which becomes a deferral.
    relay.faults.fail("ledger.claim", after_calls=1, times=6, error=WorkerDied())
    record = await run(relay)
    assert record.status is State.HELD
    assert Reason.WORKER_FAILED in {attempt.reason for attempt in record.attempts}
    assert copies(dialer) == 1


async def test_once_it_is_decided_a_released_delivery_is_tried() -> None:
    dialer = ScriptedDialer()
    relay = relay_with("hold", dialer)
    relay.faults.fail("ledger.record", error=WorkerDied())
    record = await run(relay)
    assert record.status is State.HELD
    assert all(attempt.commits_at is None for attempt in record.attempts)
    assert record.attempts[0].ambiguous
