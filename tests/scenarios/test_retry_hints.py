"""A next hop that says how long to wait is tried then, and whoever looks can read why."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from empath.control.story import told_attempt
from empath.domain.errors import TransientRefusal
from empath.domain.outcome import Deferred, RecipientOutcome
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.domain.reply import Reply
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

BOB = "bob@b.test"
CAT = "cat@b.test"


def said(text: str) -> Deferred:
    return Deferred(Reply.heard(450, text))


def greylisted(seconds: int) -> Deferred:
    return said(f"4.2.0 Greylisted, please try again in {seconds} seconds")


async def delivered(
    *outcomes: RecipientOutcome, policy: dict[str, Any] | None = None, to: tuple[str, ...] = (BOB,)
) -> tuple[MemoryRelay, DeliveryRecord]:
    """The record of a message that b.test takes after these outcomes, the same for all recipients."""
    dialer = ScriptedDialer()
    for recipient in to:
        dialer.host("b.test").outcomes[recipient] = list(outcomes)
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy("b.test", {"retry": {"jitter": 0, **(policy or {})}})
    message_id = await relay.submit("ann@a.test", to)
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    return relay, record


def waits(record: DeliveryRecord) -> list[int]:
    """Whole seconds from each attempt to the next."""
    starts = [attempt.started for attempt in record.attempts]
    return [round((later - earlier).total_seconds()) for earlier, later in pairwise(starts)]


async def test_the_next_attempt_is_made_when_the_next_hop_asked_for_it() -> None:
    relay, record = await delivered(greylisted(300))
    assert waits(record) == [300]
    assert record.attempts[0].retry_after == 300
    told = told_attempt(record.attempts[0], record, relay.clock.now())
    assert told.endswith("(next_hop_reply), which asks for 300 s")


async def test_an_hour_is_the_most_that_anybody_gets_early_on() -> None:
    _, record = await delivered(greylisted(86_400))
    assert waits(record) == [3600]
    assert record.attempts[0].retry_after == 86_400


async def test_one_that_always_says_the_same_does_not_use_up_the_attempts() -> None:
    _, record = await delivered(*[greylisted(60)] * 6)
    assert waits(record) == [60, 120, 240, 480, 960, 1920]


async def test_what_waits_in_the_ledger_is_woken_at_the_time_that_was_asked_for() -> None:
    _, record = await delivered(greylisted(1800))
    assert waits(record) == [1800]


async def test_policy_may_be_deaf_to_it() -> None:
    _, record = await delivered(greylisted(300), policy={"hints": {"enabled": False}})
    assert waits(record) == [60]
    assert record.attempts[0].retry_after is None


async def test_of_several_recipients_the_longest_wait_counts() -> None:
    dialer = ScriptedDialer()
    dialer.host("b.test").outcomes |= {BOB: [greylisted(120)], CAT: [greylisted(240)]}
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy("b.test", {"retry": {"jitter": 0}})
    message_id = await relay.submit("ann@a.test", [BOB, CAT])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert waits(record) == [240]


async def test_a_greeting_may_ask_for_a_wait_too() -> None:
    dialer = ScriptedDialer()
    reply = Reply.heard(421, "4.7.0 Too many connections, try again in 90 seconds")
    dialer.host("b.test").refusals.append(TransientRefusal(reply, Reason.NEXT_HOP_REPLY))
    relay = MemoryRelay(dialer=dialer)
    await relay.control.set_policy("b.test", {"retry": {"jitter": 0}})
    message_id = await relay.submit("ann@a.test", [BOB])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert waits(record) == [90]


@pytest.mark.parametrize("reason", [Reason.WORKER_FAILED, Reason.TIMEOUT])
async def test_words_of_our_own_ask_for_nothing(reason: Reason) -> None:
    _, record = await delivered(Deferred(Reply.of(451, "4.3.0", "try again in 300 seconds"), reason))
    assert waits(record) == [60]


async def test_no_hint_carries_mail_beyond_its_expiry() -> None:
    _, record = await delivered(greylisted(3600), greylisted(3600), policy={"expiry": 1800})
    assert record.attempts[-1].started - record.received_at <= timedelta(seconds=1800 + 1)
    assert record.is_final
