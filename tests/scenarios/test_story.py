"""A thousand messages with every outcome, under faults and redeliveries: the books balance at every moment,
and at the end everything is told, everybody who is owed a report has one, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from empath.domain.audit_chain import Block
from empath.domain.delivery_state import State
from empath.domain.errors import Trouble
from empath.domain.lifecycle import LifecycleEvent
from empath.domain.outcome import Deferred, Failed, RecipientOutcome
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.domain.reply import Reply
from empath.dsn.parse import parse_report
from empath.pipeline.audit_check import Findings, check
from empath.testing.faults import WorkerDied
from empath.testing.memory_dialer import ReceivedMessage, ScriptedDialer
from tests.scenarios.story_relay import DrawnFaults, StoryRelay

pytestmark = pytest.mark.xdist_group("story")

MESSAGES = 1000
AT_ONCE = 25
DOMAINS = 60
PEOPLE = 12
"""At each domain, so that most are written to more than once."""

BUSY = Deferred(Reply.heard(451, "4.7.1 Come back later"))
NO_MAILBOX = Failed(Reply.heard(550, "5.1.1 No such user here"))
FULL = Failed(Reply.heard(552, "5.2.2 Mailbox is full"))
SPAM = Failed(Reply.heard(550, "5.1.1 Blocked as spam"))


@dataclass
class Story:
    """What was handed in, and how it ended."""

    seed: int
    relay: StoryRelay = field(init=False)
    subjects: dict[str, str] = field(default_factory=dict)
    """By message."""
    sent_in: int = 0

    def __post_init__(self) -> None:
        self.draws = Random(self.seed)
        self.dialer = ScriptedDialer()
        self.faults = DrawnFaults(draws=Random(self.seed + 1), rate=0.01)
        self.relay = StoryRelay(
            dialer=self.dialer, faults=self.faults, draws=Random(self.seed + 2), redelivered=0.05
        )
        self.relay.control.items["*"] = {
            "allow_addresses": ["127.0.0.0/8"],
            "retry": {"expiry": 7200.0, "max_attempts": 4, "delay_report_after": None},
        }

    async def arrive(self) -> bool:
        """Some clients hand their mail in; each tries until it hears 250. False when all are done."""
        for _ in range(AT_ONCE):
            self.sent_in += 1
            recipients = tuple({self._somebody() for _ in range(self.draws.choice((1, 1, 1, 2, 3)))})
            for number in range(1, 50):
                subject = f"m{self.sent_in}.{number}"
                try:
                    message_id = await self.relay.submit(
                        f"ann{self.sent_in % 10}@a.test",
                        recipients,
                        f"Subject: {subject}\r\n\r\nHello.\r\n".encode(),
                    )
                except (Trouble, WorkerDied):
                    continue
                self.subjects[message_id] = subject
                self.relay.books.accept(message_id, recipients)
                break
        return self.sent_in < MESSAGES

    def _somebody(self) -> str:
        draws = self.draws
        domain = f"d{draws.randrange(DOMAINS)}.test"
        address = f"user{draws.randrange(PEOPLE)}@{domain}"
        host = self.dialer.host(domain)
        if draws.random() < 0.02:
            host.ambiguous += 1
        if address not in host.outcomes:
            later: list[RecipientOutcome] = [BUSY] * draws.choice((1, 2, 3))
            host.outcomes[address] = draws.choices(
                ([], later, BUSY, NO_MAILBOX, FULL, SPAM), (60, 15, 5, 12, 4, 4)
            )[0]
        return address

    # How it ended.

    def deliveries(self) -> list[DeliveryRecord]:
        return self.relay.ledger.all_deliveries()

    def ends(self) -> dict[tuple[str, str], DeliveryRecord]:
        """The delivery of everybody whom an accepted message was for."""
        return {
            (record.message_id, address): record
            for record in self.deliveries()
            if record.message_id in self.relay.books.accepted
            for address in record.recipients
        }

    def taken(self) -> dict[tuple[str, str], int]:
        """How often each recipient got each message, by subject."""
        copies = Counter(
            (_subject(message), address) for message in self.dialer.messages for address in message.recipients
        )
        return dict(copies)

    def lines(self) -> list[dict[str, Any]]:
        """Of the audit trail, each once."""
        blocks = (Block.decode(content) for content in self.relay.audit.objects.values())
        found = [json.loads(line) for block in blocks for line in block.lines]
        return list({fields["id"]: fields for fields in found}.values())

    async def check(self) -> Findings:
        return await check(self.relay.audit)


def _subject(message: ReceivedMessage) -> str:
    return message.content.split(b"\r\n", 1)[0].decode().removeprefix("Subject: ")


@pytest.fixture(scope="module")
def story() -> Story:
    """One story, looked at from all sides by the tests below."""
    story = Story(seed=6)
    asyncio.run(story.relay.work_off(story.arrive))
    return story


def test_the_books_were_looked_at_at_every_moment_and_balance(story: Story) -> None:
    books = story.relay.books
    assert len(books.accepted) == MESSAGES
    assert books.moments > 1000
    assert story.faults.happened > 200
    recipients = sum(map(len, books.accepted.values()))
    found = books.recount()
    assert found["open"] == 0
    assert found["sent"] + found["reported"] == recipients
    assert min(found.values()) == 0 < found["reported"] < found["sent"]


def test_what_counts_as_sent_was_taken_and_twice_only_where_the_ledger_says_so(story: Story) -> None:
    taken = story.taken()
    for (message_id, address), record in story.ends().items():
        copies = taken.get((story.subjects[message_id], address), 0)
        if record.recipients[address].state is State.SENT:
            assert copies >= 1
        if copies > 1:
            assert any(attempt.ambiguous for attempt in record.attempts)


def test_nothing_is_left_behind(story: Story) -> None:
    known = {message.spool_key for message in story.relay.ledger.messages()}
    # What never heard 250 and is on no queue is the business of the bucket's lifecycle.
    assert not known & story.relay.spool.objects.keys()
    assert not {f"messages/{message_id}" for message_id in story.subjects} & story.relay.spool.objects.keys()
    assert [record for record in story.deliveries() if not record.is_settled] == []
    assert [message for message in story.relay.ledger.messages() if message.forget_at is None] == []
    assert story.relay.is_idle


def test_everybody_who_failed_is_in_exactly_one_report(story: Story) -> None:
    reports = {
        report.message_id: report
        for message in story.dialer.messages
        if not message.reverse_path
        for report in [parse_report(message.content)]
    }
    told = Counter(
        (report.original_headers, recipient.final_recipient)
        for report in reports.values()
        for recipient in report.recipients
    )
    owed = {
        (f"Subject: {story.subjects[message_id]}\r\n".encode(), address)
        for (message_id, address), record in story.ends().items()
        if record.recipients[address].state in (State.FAILED, State.EXPIRED)
    }
    assert len(owed) > 100
    assert {key: told[key] for key in owed} == dict.fromkeys(owed, 1)
    handed_in = [message.source.report_of for message in story.relay.ledger.messages()]
    assert max(Counter(filter(None, handed_in)).values()) == 1


async def test_the_audit_trail_tells_everything_once_and_verifies(story: Story) -> None:
    assert (await story.check()).faults == []
    lines = story.lines()
    assert Counter(
        fields["message_id"] for fields in lines if fields["type"] == "MessageReceived"
    ) == Counter(message.message_id for message in story.relay.ledger.messages())
    ends = Counter(
        (fields["message_id"], fields["recipient"], fields["state"])
        for fields in lines
        if fields["type"] in ("DeliverySuccess", "DeliveryFailure")
    )
    assert ends == Counter(
        (record.message_id, address, known.state)
        for record in story.deliveries()
        for address, known in record.recipients.items()
    )
    recorded = Counter(
        (fields["message_id"], fields["delivery"], fields["attempt"])
        for fields in lines
        if fields["type"] == "DeliveryAttempt" and "duration" in fields
    )
    assert recorded == Counter(
        (record.message_id, record.delivery, attempt)
        for record in story.deliveries()
        for attempt in range(1, record.attempt)
    )
    unheard = sum(fields["type"] == "DeliveryAttempt" and "duration" not in fields for fields in lines)
    assert unheard == sum(
        attempt.duration is None for record in story.deliveries() for attempt in record.attempts
    )


def test_applications_hear_of_every_failure_and_deferral_and_of_nothing_else(story: Story) -> None:
    told: Counter[tuple[str, str, str]] = Counter(
        (event.type, event.message_id, event.recipient) for event in _once(story)
    )
    expected = {
        (known.state.lower(), record.message_id, address)
        for record in story.deliveries()
        for address, known in record.recipients.items()
        if known.state in (State.FAILED, State.EXPIRED)
    }
    assert {key for key in told if key[0] in ("failed", "expired")} == expected
    assert {told[key] for key in expected} == {1}
    assert {kind for kind, _, _ in told} == {"failed", "expired", "deferred"}
    deferred = {(message_id, address) for kind, message_id, address in told if kind == "deferred"}
    tried_again = {
        (fields["message_id"], address)
        for fields in story.lines()
        if fields["type"] == "DeliveryAttempt"
        for address, state in fields.get("recipients", {}).items()
        if state == State.DEFERRED
    }
    assert tried_again
    assert tried_again <= deferred


def _once(story: Story) -> list[LifecycleEvent]:
    return list({event.id: event for event in story.relay.events.told}.values())


def test_who_has_no_mailbox_is_on_the_list_and_is_not_tried_again(story: Story) -> None:
    without = {
        address
        for (_, address), record in story.ends().items()
        if record.recipients[address].state is State.FAILED
        and record.recipients[address].reply == NO_MAILBOX.reply
    }
    assert len(without) > 20
    assert set(story.relay.list.entries) == without
    suppressed = [
        (message_id, address)
        for (message_id, address), record in story.ends().items()
        if record.recipients[address].reason is Reason.SUPPRESSED
    ]
    assert len(suppressed) > 20
    assert {address for _, address in suppressed} <= without
    tried = story.taken()
    assert not [key for key in suppressed if (story.subjects[key[0]], key[1]) in tried]


# Somebody has been at the trail.


@pytest.fixture
def trail(story: Story) -> Iterator[dict[str, bytes]]:
    """Its objects; put back afterwards as they were."""
    objects = story.relay.audit.objects
    kept = dict(objects)
    yield objects
    objects.clear()
    objects.update(kept)


@pytest.mark.parametrize("seed", range(10))
async def test_a_byte_that_was_changed_is_found_with_its_object(
    story: Story, trail: dict[str, bytes], seed: int
) -> None:
    draws = Random(seed)
    key = draws.choice(sorted(trail))
    octets = bytearray(trail[key])
    octets[draws.randrange(len(octets))] ^= 1 << draws.randrange(8)
    trail[key] = bytes(octets)
    faults = (await story.check()).faults
    assert len(faults) == 1
    # Where a link was changed the fault names both of its ends.
    assert key in f"{faults[0].key} {faults[0].what}"


@pytest.mark.parametrize("seed", range(5))
async def test_an_object_that_was_taken_away_is_missed(
    story: Story, trail: dict[str, bytes], seed: int
) -> None:
    del trail[Random(seed).choice(sorted(trail))]
    (fault,) = (await story.check()).faults
    assert "missing" in fault.what


@pytest.mark.parametrize("seed", range(5))
async def test_objects_that_changed_places_are_found(
    story: Story, trail: dict[str, bytes], seed: int
) -> None:
    first, second = Random(seed).sample(sorted(trail), 2)
    trail[first], trail[second] = trail[second], trail[first]
    faults = (await story.check()).faults
    assert faults
    assert {first, second} & {fault.key for fault in faults}
