"""An address that there is no mailbox for is not tried again for a time, and its sender hears why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from empath.domain.delivery_state import State
from empath.domain.outcome import Failed
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.domain.suppression import Suppression, names_no_mailbox
from empath.pipeline.changes import StreamChange
from empath.pipeline.chronicle import Chronicle
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.relay import MemoryRelay

SENDER = "ann@a.test"


class World:
    def __init__(self) -> None:
        self.dialer = ScriptedDialer()
        self.relay = MemoryRelay(dialer=self.dialer)
        self.list = MemorySuppressions()
        stage = self.relay.resolution
        self.relay.resolution = type(stage).over(_With(stage, suppressions=self.list))
        self.chronicle = Chronicle(
            spool=self.relay.spool,
            ledger=self.relay.ledger,
            clock=self.relay.clock,
            control=self.relay.control,
            suppressions=self.list,
        )
        self.changes: list[StreamChange] = []

    async def send(self, *recipients: str, tenant: str | None = None) -> dict[str, State]:
        """What became of the recipients, with the stream worked off twice."""
        taken = self.relay.ledger.take_stream_records

        def both() -> list[tuple[object, object]]:
            changes = taken()
            now = self.relay.clock.now()
            self.changes += [StreamChange(f"E{n}", now, old, new) for n, (old, new) in enumerate(changes)]
            return changes  # type: ignore[return-value]

        self.relay.ledger.take_stream_records = both  # type: ignore[assignment, method-assign]
        self.last = await self.relay.submit(SENDER, list(recipients))
        await self.relay.run()
        self.relay.ledger.take_stream_records = taken  # type: ignore[method-assign]
        for _ in range(2):
            await self.chronicle.take(self.changes)
        self.changes.clear()
        return self.relay.states(self.last)

    def tried(self) -> list[str]:
        return [address for message in self.dialer.messages for address in message.recipients]


class _With:
    """A stage's ports with some put beside them."""

    def __init__(self, stage: object, **more: object) -> None:
        self._stage, self._more = stage, more

    def __getattr__(self, name: str) -> object:
        return self._more[name] if name in self._more else getattr(self._stage, name)


@pytest.fixture
def world() -> World:
    world = World()
    refused = Failed(Reply.heard(550, "5.1.1 <bob@b.test>: User unknown"))
    world.dialer.host("b.test").outcomes["bob@b.test"] = refused
    return world


async def test_after_no_such_mailbox_an_address_fails_at_once_until_its_time(world: World) -> None:
    assert await world.send("bob@b.test") == {"bob@b.test": State.FAILED}
    (entry,) = world.list.entries.values()
    assert (entry.address, entry.origin, entry.message_id) == ("bob@b.test", "failure", world.last)
    until = entry.until
    assert until is not None
    assert until - entry.since == timedelta(days=14)

    world.dialer.host("b.test").outcomes.clear()
    assert await world.send("bob@b.test") == {"bob@b.test": State.FAILED}
    (record,) = await world.relay.ledger.deliveries(world.last)
    known = record.recipients["bob@b.test"]
    assert known.reason is Reason.SUPPRESSED
    assert str(known.reply).startswith("550 5.1.1 <bob@b.test> is on the suppression list since 2026-")
    assert len(world.relay.reports_of(world.last)) == 1
    assert "bob@b.test" not in world.tried()
    # Being on the list is no new reason to be on it.
    assert [one.until for one in world.list.entries.values()] == [until]

    world.relay.clock.advance_to(until)
    assert await world.send("bob@b.test") == {"bob@b.test": State.SENT}


async def test_the_others_of_a_delivery_are_tried(world: World) -> None:
    await world.send("bob@b.test")
    assert await world.send("bob@b.test", "carol@b.test", "dora@c.test") == {
        "bob@b.test": State.FAILED,
        "carol@b.test": State.SENT,
        "dora@c.test": State.SENT,
    }
    assert sorted(address for address in world.tried() if address != SENDER) == [
        "carol@b.test",
        "dora@c.test",
    ]
    assert len(world.relay.reports_of(world.last)) == 1


async def test_a_refused_message_puts_only_whom_the_reply_names_on_the_list(world: World) -> None:
    """The reply to the content is every recipient's outcome, and may be about one of them."""
    refused = Failed(Reply.heard(550, "5.1.1 <dan@b.test>: no such user"))
    world.dialer.host("b.test").outcomes.update({"carol@b.test": refused, "dan@b.test": refused})
    await world.send("carol@b.test", "dan@b.test")
    assert set(world.list.entries) == {"dan@b.test"}


async def test_an_operators_entry_stays_and_counts(world: World) -> None:
    now = world.relay.clock.now()
    await world.list.add(Suppression(address="eve@e.test", since=now, origin="operator", note="asked for it"))
    assert await world.send("Eve@e.test") == {"Eve@e.test": State.FAILED}
    (record,) = await world.relay.ledger.deliveries(world.last)
    assert "put there by an operator: asked for it" in str(record.recipients["Eve@e.test"].reply)


async def test_a_tenant_can_do_without(world: World) -> None:
    await world.relay.control.set_tenant_policy("*", {"suppression": {"enabled": False}})
    await world.send("bob@b.test")
    assert world.list.entries == {}
    now = world.relay.clock.now()
    await world.list.add(Suppression(address="eve@e.test", since=now, origin="operator"))
    assert await world.send("eve@e.test") == {"eve@e.test": State.SENT}


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (550, "5.1.1 <x@example.com>: Recipient address rejected: User unknown in virtual table", True),
        (550, "5.1.6 Recipient no longer on server", True),
        (554, "delivery error: dd This user doesn't have a yahoo.com account", True),
        (550, "sorry, no mailbox here by that name", True),
        (550, "5.1.0 Address rejected: no such user", True),
        (450, "4.1.1 User unknown", False),
        (550, "5.2.1 The email account that you tried to reach is disabled", False),
        (552, "5.2.2 The email account that you tried to reach is over quota", False),
        (550, "5.1.1 Blocked: spam", False),
        (550, "5.7.1 no such user, or relaying denied", False),
        (550, "", False),
        (550, "5.1.2 Bad destination system", False),
        (550, "5.1.1 <X@Example.com>... User unknown", True),
        (550, "5.1.1 RCPT TO:<x@example.com>: no such user.", True),
        (550, "5.1.1 'x@example.com' is no such user", True),
        (550, "5.1.0 <ann@a.test>: Sender address rejected: User unknown in local recipient table", False),
        (
            550,
            "Verification failed for <x@example.com>\nResponse: 550 No such user\nSender verify failed",
            False,
        ),
        (553, "your envelope sender's account does not exist", False),
        (550, "5.1.1 <other@example.com>: User unknown", False),
        (550, "5.1.1 <other@example.com>, <x@example.com>: User unknown", True),
    ],
)
def test_only_what_means_no_such_mailbox_puts_an_address_on_the_list(
    code: int, text: str, expected: bool
) -> None:
    assert names_no_mailbox("x@example.com", Reply.heard(code, text), Reason.NEXT_HOP_REPLY) is expected


def test_our_own_refusals_put_no_address_on_the_list() -> None:
    reply = Reply.of(550, "5.1.1", "no such user")
    assert not names_no_mailbox("x@example.com", reply, Reason.SUPPRESSED)
    assert not names_no_mailbox("x@example.com", None, None)
