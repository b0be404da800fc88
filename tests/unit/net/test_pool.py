"""The pool's books: whatever comes in whatever order, each connection is with one user, idle, or closed."""

from __future__ import annotations

import asyncio
import ipaddress

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from empath.domain.errors import TransientRefusal
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.pool import MAX_AGE, MAX_IDLE, ConnectionPool, PooledChannel
from empath.ports import Endpoint, Transaction
from empath.testing.clock import ManualClock
from empath.testing.memory_dialer import ScriptedChannel, ScriptedDialer
from empath.testing.metrics import CountedMetrics
from tests.unit.net.sending import ANN, LOOPBACK, transaction

NO = TransientRefusal(Reply.of(421, "4.3.2", "Busy"), Reason.NEXT_HOP_REPLY)
MAIL: Transaction = transaction(recipients=[ANN])


def endpoint(number: int) -> Endpoint:
    """Two sites of two hosts each; the first site's connections are counted."""
    site = number // 2
    return Endpoint(
        f"mx{number}.test",
        ipaddress.ip_address("127.0.0.1"),
        25,
        allow_addresses=LOOPBACK,
        messages_per_connection=3,
        site=f"site{site}",
        is_counted=site == 0,
    )


class Remembering(ScriptedDialer):
    """Keeps every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.channels: list[ScriptedChannel] = []

    async def connect(self, endpoint: Endpoint, *, deadline: float) -> ScriptedChannel:
        channel = await super().connect(endpoint, deadline=deadline)
        self.channels.append(channel)
        return channel


class Books(RuleBasedStateMachine):
    """Every rule is an event that a process may see; the invariants hold after each."""

    @initialize(most=st.integers(1, 5))
    def begin(self, most: int) -> None:
        self.runner = asyncio.Runner()
        self.clock, self.metrics = ManualClock(), CountedMetrics()
        self.dialer = Remembering()
        self.most = most
        self.pool = ConnectionPool(self.dialer, self.clock, self.metrics, most=most)
        self.lent: list[PooledChannel] = []
        self.asked = 0

    @rule(number=st.integers(0, 3), refused=st.booleans())
    def connect(self, number: int, refused: bool) -> None:
        self.dialer.host(f"mx{number}.test").refusal = NO if refused else None

        async def connect() -> None:
            try:
                channel = await self.pool.connect(endpoint(number), deadline=10)
            except TransientRefusal:
                return
            assert channel.is_usable
            assert channel._connection.endpoint.host == f"mx{number}.test"
            assert channel._connection.messages < 3
            assert self.clock.now() - channel._connection.opened < MAX_AGE
            self.lent.append(channel)

        self.asked += 1
        self.runner.run(connect())

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), sends=st.booleans(), is_lost=st.booleans(), times=st.integers(1, 2))
    def give_back(self, data: st.DataObject, sends: bool, is_lost: bool, times: int) -> None:
        channel = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))

        async def use() -> None:
            if sends:
                await channel.transact(MAIL)
            if is_lost:
                inner = channel._connection.channel
                assert isinstance(inner, ScriptedChannel)
                inner.is_lost = True
            for _ in range(times):
                await channel.close()

        self.runner.run(use())

    @precondition(lambda self: self.pool.idle)
    @rule(data=st.data())
    def an_idle_one_is_lost(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, self.pool.idle - 1))
        [one for one in self.dialer.channels if self._is_idle(one)][number].is_lost = True

    @rule(seconds=st.sampled_from([0.1, 3.0, 20.0, MAX_IDLE.total_seconds(), MAX_AGE.total_seconds()]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(site=st.sampled_from(["site0", "site1", "site2"]))
    def a_right_is_given_back(self, site: str) -> None:
        before = self._idle_of(site)
        self.runner.run(self.pool.close_idle(site))
        assert self._idle_of(site) == max(0, before - 1)

    @invariant()
    def nothing_is_open_that_is_in_no_book(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.runner.run(asyncio.sleep(0))
        assert self.pool.in_use == len(self.lent)
        assert self.dialer.open_channels == self.pool.idle + self.pool.in_use

    @invariant()
    def nobody_shares(self) -> None:
        if hasattr(self, "pool"):
            assert len(self._in_use) == len(self.lent)
            assert not any(one.closed for one in self.dialer.channels if id(one) in self._in_use)

    @invariant()
    def they_are_bounded(self) -> None:
        if hasattr(self, "pool"):
            assert self.pool.idle + self.pool.in_use <= max(self.most, self.pool.in_use)

    @invariant()
    def what_is_counted_is_what_happened(self) -> None:
        if hasattr(self, "pool"):
            counts = self.metrics.counts
            opened, reused = counts["connections_opened"], counts["connections_reused"]
            assert opened == len(self.dialer.channels)
            assert opened + reused <= self.asked

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return

        async def end() -> None:
            await self.pool.close()
            for channel in self.lent:
                await channel.close()

        self.runner.run(end())
        assert self.dialer.open_channels == 0
        assert (self.pool.idle, self.pool.in_use) == (0, 0)
        self.runner.close()

    @property
    def _in_use(self) -> set[int]:
        return {id(channel._connection.channel) for channel in self.lent}

    def _is_idle(self, channel: ScriptedChannel) -> bool:
        return not channel.closed and id(channel) not in self._in_use

    def _idle_of(self, site: str) -> int:
        return sum(one.endpoint.site == site and self._is_idle(one) for one in self.dialer.channels)


TestBooks = Books.TestCase
