"""What becomes of a message, end to end over the real stages and in-memory ports."""

from __future__ import annotations

import email
import itertools
from datetime import timedelta

import pytest

from empath.domain.delivery_state import State
from empath.domain.errors import TransientRefusal
from empath.domain.outcome import Deferred, Failed
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.pipeline.accept import Additions
from empath.ports import QueueName
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

UNKNOWN = Failed(Reply.heard(550, "5.1.1 <bob@reject.test>: no such user"))
BUSY = Deferred(Reply.heard(451, "4.7.1 try again later"))


@pytest.fixture
def dialer() -> ScriptedDialer:
    return ScriptedDialer()


@pytest.fixture
def relay(dialer: ScriptedDialer) -> MemoryRelay:
    return MemoryRelay(dialer=dialer)


def sent_to(dialer: ScriptedDialer) -> list[str]:
    return sorted(address for message in dialer.messages for address in message.recipients)


async def test_a_message_is_delivered_byte_for_byte_behind_its_trace_header(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    content = b"Subject: dots\r\n\r\n.\r\n..\r\n" + bytes(range(128, 256)) + b"\r\n"
    additions = Additions(prepend="Received: here\r\n")
    message_id = await relay.submit("ann@a.test", ["bob@b.test"], content, additions=additions)
    await relay.run()
    assert relay.states(message_id) == {"bob@b.test": State.SENT}
    assert dialer.messages[0].content == b"Received: here\r\n" + content
    assert dialer.messages[0].reverse_path == "ann@a.test"


async def test_what_was_added_at_acceptance_is_known_of_a_message_for_its_whole_life(
    relay: MemoryRelay,
) -> None:
    added = Additions(metadata={"campaign": ["spring", None]}, priority="bulk", tenant="shop")
    message_id = await relay.submit("ann@a.test", ["bob@reject.test"], additions=added)
    await relay.work(QueueName.ACCEPTED)
    for is_settled in (False, True):
        message = await relay.ledger.message(message_id)
        assert message is not None
        assert (message.metadata, message.priority, message.tenant) == (added.metadata, "bulk", "shop")
        assert message.source.client == "127.0.0.1"
        assert message.is_settled is is_settled
        await relay.run()


async def test_a_settled_message_leaves_no_raw_object_and_will_be_forgotten(relay: MemoryRelay) -> None:
    message_id = await relay.submit("ann@a.test", ["bob@b.test", "eve@c.test"])
    await relay.run()
    assert relay.spool.objects == {}
    message = await relay.ledger.message(message_id)
    assert message is not None
    assert message.is_settled
    assert message.forget_at is not None


async def test_each_destination_gets_its_own_outcome(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    dialer.host("reject.test").outcomes["bob@reject.test"] = UNKNOWN
    dialer.host("defer.test").outcomes["bob@defer.test"] = [BUSY, BUSY]
    message_id = await relay.submit("ann@a.test", ["bob@good.test", "bob@reject.test", "bob@defer.test"])
    await relay.run()
    assert relay.states(message_id) == {
        "bob@good.test": State.SENT,
        "bob@reject.test": State.FAILED,
        "bob@defer.test": State.SENT,
    }
    assert sent_to(dialer) == ["ann@a.test", "bob@defer.test", "bob@good.test"]
    (deferred,) = [
        record for record in await relay.ledger.deliveries(message_id) if record.domain == "defer.test"
    ]
    assert [str(attempt.reply) for attempt in deferred.attempts] == [
        "451 4.7.1 try again later",
        "451 4.7.1 try again later",
        "250 2.0.0 Accepted",
    ]


async def test_recipients_of_one_destination_share_a_transaction_and_keep_their_own_outcomes(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    hop = dialer.host("b.test")
    hop.outcomes["no@b.test"] = UNKNOWN
    hop.outcomes["later@b.test"] = [BUSY]
    message_id = await relay.submit("ann@a.test", ["yes@b.test", "no@b.test", "later@b.test"])
    await relay.run()
    assert relay.states(message_id) == {
        "yes@b.test": State.SENT,
        "no@b.test": State.FAILED,
        "later@b.test": State.SENT,
    }
    to_b = [message.recipients for message in dialer.messages if message.endpoint.host == "b.test"]
    assert to_b == [("yes@b.test",), ("later@b.test",)]


async def test_a_refused_recipient_is_reported_once_with_the_next_hops_words(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    dialer.host("reject.test").outcomes["bob@reject.test"] = UNKNOWN
    message_id = await relay.submit(
        "ann@a.test", ["bob@reject.test"], b"Subject: original\r\nX-Seen: 1\r\n\r\nbody\r\n"
    )
    await relay.run()
    (report,) = [message for message in dialer.messages if message.endpoint.host == "a.test"]
    assert report.reverse_path == ""
    parsed = email.message_from_bytes(report.content)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    _, _, _, _, per_recipient, headers = parsed.walk()
    assert per_recipient["Final-Recipient"] == "rfc822; bob@reject.test"
    assert per_recipient["Action"] == "failed"
    assert per_recipient["Status"] == "5.1.1"
    assert "550 5.1.1 <bob@reject.test>: no such user" in per_recipient["Diagnostic-Code"]
    assert "X-Seen: 1" in headers.as_string()
    assert len(relay.reports_of(message_id)) == 1


async def test_a_null_reverse_path_never_gets_a_report(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    dialer.host("reject.test").outcomes["bob@reject.test"] = UNKNOWN
    message_id = await relay.submit(None, ["bob@reject.test", "bob@nosuch.test"])
    await relay.run()
    assert set(relay.states(message_id).values()) == {State.FAILED}
    assert dialer.messages == []
    assert relay.reports_of(message_id) == []


async def test_a_report_that_is_refused_is_not_reported(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    dialer.host("reject.test").outcome = UNKNOWN
    message_id = await relay.submit("ann@reject.test", ["bob@reject.test"])
    await relay.run()
    (report_id,) = relay.reports_of(message_id)
    assert relay.states(report_id) == {"ann@reject.test": State.FAILED}
    assert relay.reports_of(report_id) == []


@pytest.mark.parametrize(
    ("domain", "status", "reason"),
    [("nosuch.test", "5.1.2", Reason.NO_SUCH_DOMAIN), ("nullmx.test", "5.1.10", Reason.NULL_MX)],
)
async def test_a_destination_that_dns_rules_out_fails_at_once(
    relay: MemoryRelay, dialer: ScriptedDialer, domain: str, status: str, reason: Reason
) -> None:
    started = relay.clock.now()
    message_id = await relay.submit("ann@a.test", [f"bob@{domain}"])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    known = record.recipients[f"bob@{domain}"]
    assert (known.state, known.reason) == (State.FAILED, reason)
    assert known.reply is not None
    assert str(known.reply.status) == status
    assert len(relay.reports_of(message_id)) == 1
    assert relay.clock.now() - started < timedelta(minutes=1)


async def test_a_destination_that_is_down_is_deferred_with_its_next_attempt_in_the_ledger(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    dialer.host("down.test").refusal = TransientRefusal(
        Reply.of(451, "4.4.1", "Connection refused"), Reason.CONNECTION_FAILED
    )
    message_id = await relay.submit("ann@a.test", ["bob@down.test"])
    await relay.work(QueueName.ACCEPTED)
    await relay.work(QueueName.DELIVERY)
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.status is State.DEFERRED
    assert record.reason is Reason.CONNECTION_FAILED
    assert record.next_attempt_at is not None
    wait = (record.next_attempt_at - relay.clock.now()).total_seconds()
    assert 48 <= wait <= 72


async def test_what_never_succeeds_expires_after_a_last_attempt_and_is_reported(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    dialer.host("down.test").refusal = TransientRefusal(
        Reply.of(451, "4.4.1", "Connection refused"), Reason.CONNECTION_FAILED
    )
    accepted = relay.clock.now()
    message_id = await relay.submit("ann@a.test", ["bob@down.test"])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.recipients["bob@down.test"].state is State.EXPIRED
    assert record.reason is Reason.EXPIRED
    last = record.attempts[-1].started - accepted
    assert timedelta(days=5) <= last < timedelta(days=5, minutes=2)
    delayed, failed = [message.content for message in dialer.messages if message.endpoint.host == "a.test"]
    assert b"Action: delayed" in delayed
    assert b"Status: 4.4.1" in delayed
    assert b"Status: 5.4.7" in failed
    assert b"451 4.4.1 Connection refused" in failed


async def test_longer_delays_wait_in_the_ledger_and_no_queue_carries_more_than_15_minutes(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    dialer.host("slow.test").outcomes["bob@slow.test"] = [BUSY] * 8
    message_id = await relay.submit("ann@a.test", ["bob@slow.test"])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.status is State.SENT
    starts = [attempt.started for attempt in record.attempts]
    for number, (earlier, later) in enumerate(itertools.pairwise(starts), start=1):
        planned = 60 * 2 ** (number - 1)
        assert planned * 0.8 <= (later - earlier).total_seconds() <= planned * 1.2 + 2


async def test_a_private_address_is_refused_unless_policy_allows_it(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    relay.control.items.clear()
    message_id = await relay.submit(None, ["bob@b.test"])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.reason is Reason.ADDRESS_NOT_ALLOWED
    assert record.recipients["bob@b.test"].state is State.FAILED
    assert dialer.endpoints == []


async def test_many_recipients_of_one_destination_are_split_by_hundreds(
    relay: MemoryRelay, dialer: ScriptedDialer
) -> None:
    everyone = [f"user{number}@b.test" for number in range(250)]
    message_id = await relay.submit("ann@a.test", everyone)
    await relay.run()
    assert set(relay.states(message_id)) == set(everyone)
    assert sorted(len(message.recipients) for message in dialer.messages) == [50, 100, 100]
    assert relay.spool.objects == {}


async def test_the_same_mailbox_twice_is_delivered_once(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    await relay.submit("ann@a.test", ["bob@b.test", "bob@B.TEST", "Bob@b.test"])
    await relay.run()
    assert sent_to(dialer) == ["Bob@b.test", "bob@b.test"]


@pytest.mark.parametrize("domain", ["BÜCHER.example", "xn--bcher-kva.example", "bücher。example"])
async def test_an_international_domain_has_one_policy_in_whichever_form_it_is_written(
    relay: MemoryRelay, domain: str
) -> None:
    relay.control.items["xn--bcher-kva.example"] = {"route": {"kind": "sink"}}
    message_id = await relay.submit("ann@a.test", [f"bob@{domain}"])
    await relay.run()
    (record,) = await relay.ledger.deliveries(message_id)
    assert record.domain == "xn--bcher-kva.example"
    assert record.recipients[f"bob@{domain}"].state is State.SENT
    assert record.recipients[f"bob@{domain}"].next_hop == "sink"


async def test_counters_count_recipients(relay: MemoryRelay, dialer: ScriptedDialer) -> None:
    dialer.host("reject.test").outcomes["bob@reject.test"] = UNKNOWN
    dialer.host("defer.test").outcomes["bob@defer.test"] = [BUSY]
    await relay.submit(None, ["a@good.test", "b@good.test", "bob@reject.test", "bob@defer.test"])
    await relay.run()
    counters = relay.metrics.counts
    assert (counters["sent"], counters["failed"], counters["deferred"]) == (3, 1, 1)
