"""The pool of connections against the scripted sink: what is used again, what a dead one costs, limits.

Every fault meets a connection that is new and one that was used before. Nothing is lost, nothing is sent
twice, and what is ambiguous says so.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.gate import HeldBack
from empath.domain.policy import read_policy
from empath.net.pool import MAX_AGE, MAX_IDLE, TRUSTED_FOR, ConnectionPool
from empath.net.standing import MOST_IN_VAIN
from empath.pipeline.gates import Gatekeeper
from empath.ports import Credentials, Endpoint, TransactionResult
from empath.testing.certificates import server_context
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_gates import MemoryGates
from empath.testing.metrics import CountedMetrics
from empath.testing.smtp_sink import DROP, RESET, STALL, TAKE_AND_DROP, Act, Script, Session, SmtpSink, Step
from tests.unit.net.sending import ANN, dialer, endpoint, send, shorts, transaction

WAYS: dict[str, tuple[str, ...]] = {
    "one by one": (),
    "pipelining": ("PIPELINING",),
    "chunking": ("CHUNKING",),
    "one flight": ("PIPELINING", "CHUNKING"),
}
SENT = "sent 250"
LOST, LATE = "deferred 451 connection_lost", "deferred 451 timeout"
HANG_UP = Act("421 4.4.2 Idle for too long", then="close")


class Worker:
    """A process with its pool; the clock is the test's."""

    def __init__(self, **limits: int) -> None:
        self.clock = ManualClock()
        self.metrics = CountedMetrics()
        self.pool = ConnectionPool(dialer(), self.clock, self.metrics, **limits)
        self.sent = 0

    async def send(self, to: SmtpSink | Endpoint, idle: timedelta = timedelta()) -> TransactionResult:
        """A message of its own, after so much time."""
        self.clock.advance(idle.total_seconds())
        self.sent += 1
        return await send(to, transaction(b"Subject: %d\r\n\r\n" % self.sent, [ANN]), by=self.pool)

    async def outcome(self, to: SmtpSink | Endpoint, idle: timedelta = timedelta()) -> str:
        (outcome,) = set(shorts(await self.send(to, idle)).values())
        return outcome


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    yield worker
    await worker.pool.close()
    assert (worker.pool.idle, worker.pool.in_use) == (0, 0)


def check_conserved(sink: SmtpSink, results: list[TransactionResult]) -> None:
    """Each message that was sent is there once; one that was not is not, unless that is ambiguous."""
    taken = [message.content for message in sink.accepted]
    for number, result in enumerate(results, 1):
        times = taken.count(b"Subject: %d\r\n\r\n" % number)
        if shorts(result) == {ANN: SENT}:
            assert times == 1
        else:
            assert times <= result.ambiguous


class TestReuse:
    async def test_messages_to_the_same_endpoint_go_on_one_connection(self, worker: Worker) -> None:
        async with SmtpSink() as sink:
            assert [await worker.outcome(sink) for _ in range(20)] == [SENT] * 20
        assert sink.connections == 1
        assert worker.metrics.counts == {"connections_opened": 1, "connections_reused": 19}

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize(
        ("stage", "reply"),
        [
            # Postfix's postscreen, to every recipient of a connection that it does not hand on.
            ("RCPT", "450 4.3.2 Service currently unavailable"),
            # OpenSMTPD, from the 101st message of a connection on.
            ("MAIL", "452 4.5.3 Too many recipients: Too many messages sent"),
        ],
    )
    async def test_a_connection_on_which_the_host_takes_no_mail_is_left(
        self, worker: Worker, stage: str, reply: str, way: str
    ) -> None:
        async with SmtpSink({stage: [reply]}, extensions=WAYS[way]) as sink:
            outcomes = [await worker.outcome(sink) for _ in range(3)]
        assert outcomes == [f"deferred {reply[:3]} next_hop_reply", SENT, SENT]
        assert sink.connections == 2

    @pytest.mark.parametrize("way", WAYS)
    async def test_a_connection_on_which_nothing_is_sent_any_more_is_left(
        self, worker: Worker, way: str
    ) -> None:
        """Postfix answers a second later to each command from the tenth error of a session on."""
        bad: list[Step] = ["550 5.1.1 Unknown"] * (MOST_IN_VAIN - 1)
        script: Script = {"RCPT": [*bad, "250 2.1.5 Ok", *bad, "550 5.1.1 Unknown", "250 2.1.5 Ok"]}
        async with SmtpSink(script, extensions=WAYS[way]) as sink:
            outcomes = [await worker.outcome(sink) for _ in range(2 * MOST_IN_VAIN + 1)]
        assert outcomes.count(SENT) == 2
        assert sink.connections == 2
        taken = [sum(command.startswith("MAIL") for command in each.commands) for each in sink.sessions]
        assert taken == [2 * MOST_IN_VAIN, 1]

    async def test_a_connection_stays_where_a_recipient_is_to_wait(self, worker: Worker) -> None:
        async with SmtpSink({"RCPT": ["450 4.2.0 Greylisted"]}) as sink:
            assert [await worker.outcome(sink) for _ in range(2)] == ["deferred 450 next_hop_reply", SENT]
        assert sink.connections == 1

    async def test_whoever_sends_at_the_same_time_has_a_connection_of_their_own(self, worker: Worker) -> None:
        async with SmtpSink(latency=0.01) as sink:
            for _ in range(3):
                await asyncio.gather(*(worker.send(sink) for _ in range(5)))
        assert sink.connections == 5
        assert len(sink.accepted) == 15

    async def test_what_is_kept_of_tls_is_the_connections(self, worker: Worker) -> None:
        async with SmtpSink(tls=server_context()) as sink:
            kept = []
            for _ in range(2):
                channel = await worker.pool.connect(endpoint(sink), deadline=20)
                await channel.transact(transaction())
                await channel.close()
                kept.append(channel.tls)
        assert kept[0] is not None
        assert kept[0] == kept[1]
        assert sink.connections == 1

    @pytest.mark.parametrize(
        "other",
        [
            {"host": "mx2.sink.test"},
            {"tls": "disabled"},
            {"tls_name": "other.test"},
            {"accept_invalid_certs": True},
            {"credentials": Credentials("ann", "secret")},
            {"protocol": "lmtp"},
            {"implicit_tls": True},
            {"site": "another"},
        ],
    )
    async def test_no_connection_is_shared_by_those_who_differ(
        self, worker: Worker, other: dict[str, object]
    ) -> None:
        async with SmtpSink() as sink:
            one = endpoint(sink)
            first = await worker.pool.connect(one, deadline=20)
            await first.close()
            try:
                second = await worker.pool.connect(replace(one, **other), deadline=20)  # type: ignore[arg-type]
                await second.close()
            except (TransientRefusal, PermanentRefusal):
                pass  # not offered by this sink, and asked on another connection
            assert sink.connections >= 2
            assert worker.metrics.counts["connections_reused"] == 0

    async def test_an_open_connection_is_no_way_around_the_addresses_that_policy_allows(
        self, worker: Worker
    ) -> None:
        async with SmtpSink() as sink:
            assert await worker.outcome(endpoint(sink)) == SENT
            with pytest.raises(PermanentRefusal):
                await worker.pool.connect(replace(endpoint(sink), allow_addresses=()), deadline=20)
            narrower = replace(endpoint(sink), allow_addresses=(ipaddress.ip_network("127.0.0.1/32"),))
            assert await worker.outcome(narrower) == SENT
        assert sink.connections == 1

    async def test_a_transaction_has_the_deadline_of_its_own_connect(self, worker: Worker) -> None:
        async with SmtpSink({"message": ["250 2.0.0 Ok", STALL]}) as sink:
            channel = await worker.pool.connect(endpoint(sink), deadline=0.2)
            assert shorts(await channel.transact(transaction(recipients=[ANN]))) == {ANN: SENT}
            await channel.close()
            await asyncio.sleep(0.25)
            channel = await worker.pool.connect(endpoint(sink), deadline=20)
            result = await channel.transact(transaction(recipients=[ANN]))
            await channel.close()
        assert shorts(result) == {ANN: LATE}
        assert len(sink.messages) == 2  # there was time to send it

    async def test_a_channel_that_was_given_back_is_of_no_use(self, worker: Worker) -> None:
        async with SmtpSink() as sink:
            channel = await worker.pool.connect(endpoint(sink), deadline=20)
            await channel.close()
            await channel.close()
            assert (channel.is_usable, await channel.reset()) == (False, False)
            with pytest.raises(RuntimeError):
                await channel.transact(transaction())
            assert worker.pool.idle == 1


class TestLimits:
    @pytest.mark.parametrize(
        ("idle", "connections", "resets"),
        [
            (TRUSTED_FOR, 1, 0),
            (TRUSTED_FOR + timedelta(seconds=1), 1, 1),
            (MAX_IDLE - timedelta(seconds=1), 1, 1),
            (MAX_IDLE, 2, 0),
            (timedelta(days=1), 2, 0),
        ],
    )
    async def test_the_longer_a_connection_is_idle_the_less_it_is_trusted(
        self, worker: Worker, idle: timedelta, connections: int, resets: int
    ) -> None:
        async with SmtpSink() as sink:
            assert await worker.outcome(sink) == SENT
            assert await worker.outcome(sink, idle) == SENT
            said = [command for session in sink.sessions for command in session.commands]
        assert sink.connections == connections
        assert said.count("RSET") == resets

    async def test_a_connection_in_constant_use_ends_with_its_age(self, worker: Worker) -> None:
        async with SmtpSink() as sink:
            for _ in range(100):
                assert await worker.outcome(sink, MAX_AGE / 50) == SENT
        assert sink.connections == 2

    async def test_one_that_is_too_old_when_it_is_given_back_is_closed(self, worker: Worker) -> None:
        async with SmtpSink() as sink:
            channel = await worker.pool.connect(endpoint(sink), deadline=20)
            worker.clock.advance(MAX_AGE.total_seconds())
            await channel.close()
            assert worker.pool.idle == 0
            assert sink.sessions[0].commands[-1] == "QUIT"

    @pytest.mark.parametrize("most", [1, 3, 100])
    async def test_a_connection_takes_no_more_messages_than_policy_says(
        self, worker: Worker, most: int
    ) -> None:
        async with SmtpSink() as sink:
            target = replace(endpoint(sink), messages_per_connection=most)
            for _ in range(7):
                assert await worker.outcome(target) == SENT
            assert sink.connections == -(-7 // most)

    async def test_nor_than_the_next_hop_says(self, worker: Worker) -> None:
        async with SmtpSink(extensions=("PIPELINING", "LIMITS MAILMAX=2")) as sink:
            for _ in range(7):
                assert await worker.outcome(sink) == SENT
        mails = [sum(command.startswith("MAIL") for command in one.commands) for one in sink.sessions]
        assert mails == [2, 2, 2, 1]

    async def test_their_number_is_bounded_and_who_was_idle_for_longest_goes_first(self) -> None:
        worker = Worker(most=3)
        async with SmtpSink() as sink:
            hosts = [replace(endpoint(sink), host=f"mx{number}.test") for number in range(5)]
            for host in hosts:
                assert await worker.outcome(host, timedelta(seconds=1)) == SENT
                assert worker.pool.idle <= 3
            before = sink.connections
            for host in hosts[2:]:
                assert await worker.outcome(host) == SENT
            assert sink.connections == before == 5
            await worker.pool.close()
            assert [session.commands[-1] for session in sink.sessions] == ["QUIT"] * 5


IDLE = TRUSTED_FOR + timedelta(seconds=1)


class TestDeadConnections:
    @pytest.mark.parametrize("way", WAYS)
    async def test_one_that_the_next_hop_closed_after_a_message_costs_nothing(
        self, worker: Worker, way: str
    ) -> None:
        script: Script = {"message": Act("250 2.0.0 Ok", then="close")}
        async with SmtpSink(script, extensions=WAYS[way]) as sink:
            results = [await worker.send(sink) for _ in range(5)]
        assert [shorts(result) for result in results] == [{ANN: SENT}] * 5
        assert sink.connections == 5
        check_conserved(sink, results)

    @pytest.mark.parametrize(
        "act",
        [DROP, RESET, STALL, HANG_UP, Act("550 5.5.1 What"), Act(b"\x00\r\n")],
        ids=lambda act: act.then,
    )
    @pytest.mark.parametrize("way", WAYS)
    async def test_one_that_gives_no_sign_of_life_costs_no_attempt(
        self, worker: Worker, way: str, act: Act
    ) -> None:
        async with SmtpSink({"RSET": [act]}, extensions=WAYS[way]) as sink:
            results = [await worker.send(sink), await worker.send(sink, IDLE), await worker.send(sink)]
        assert [shorts(result) for result in results] == [{ANN: SENT}] * 3
        assert sink.connections == 2
        assert worker.metrics.counts["connections_found_dead"] == 1
        check_conserved(sink, results)

    async def test_where_one_is_dead_those_that_were_idle_as_long_are_not_asked(self, worker: Worker) -> None:
        async with SmtpSink({"RSET": STALL}, latency=0.01) as sink:
            await asyncio.gather(*(worker.send(sink) for _ in range(4)))
            assert await worker.outcome(sink, IDLE) == SENT
            resets = [session for session in sink.sessions if "RSET" in session.commands]
            assert len(resets) == 1
            assert worker.pool.idle == 1

    async def test_a_host_that_is_gone_is_a_refusal_to_connect_so_that_another_is_tried(
        self, worker: Worker
    ) -> None:
        async with SmtpSink() as sink:
            target = endpoint(sink)
            assert await worker.outcome(target) == SENT
        with pytest.raises(TransientRefusal):
            await worker.send(target, IDLE)
        assert (worker.pool.idle, worker.pool.in_use) == (0, 0)

    async def test_who_gives_up_amid_the_question_leaves_nothing_open(self, worker: Worker) -> None:
        async with SmtpSink({"RSET": STALL}) as sink:
            assert await worker.outcome(sink) == SENT
            asking = asyncio.create_task(worker.send(sink, IDLE))
            while "RSET" not in sink.sessions[0].commands:
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert (worker.pool.idle, worker.pool.in_use) == (0, 0)


FAULTS: dict[str, Step] = {
    "refuse": "550 5.7.1 No",
    "defer": "450 4.2.1 Later",
    "hang up": HANG_UP,
    "drop": DROP,
    "reset": RESET,
    "stall": STALL,
    "garbage": b"\x00 what?\r\n",
}
SILENT = {"drop", "reset", "stall", "garbage"}
COSTS_NOTHING = {"hang up", "drop", "reset", "garbage"}
OUTCOMES = {
    "refuse": "failed 550 next_hop_reply",
    "defer": "deferred 450 next_hop_reply",
    "hang up": "deferred 421 next_hop_reply",
    "drop": LOST,
    "reset": LOST,
    "stall": LATE,
    "garbage": "deferred 451 protocol_error",
}


@pytest.mark.parametrize("is_reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "message"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_that_dies_unheard_costs_no_attempt_unless_mail_may_have_been_taken(
    worker: Worker, way: str, fault: str, stage: str, is_reused: bool
) -> None:
    async with SmtpSink(extensions=WAYS[way]) as sink:
        # What the host's extensions are good for is known from a connection that is gone.
        results = [await worker.send(sink)]
        if not is_reused:
            worker.clock.advance(MAX_IDLE.total_seconds())
        else:
            results.append(await worker.send(sink))
        known = sink.connections
        sink.script[stage] = [FAULTS[fault]]
        results.append(await worker.send(sink))
        used = sink.connections - known
        results.append(await worker.send(sink))
    is_ambiguous = fault in SILENT and (stage == "message" or way == "one flight")
    goes_again = is_reused and stage == "MAIL" and fault in COSTS_NOTHING and not is_ambiguous
    assert results[-2].ambiguous is is_ambiguous
    assert shorts(results[-2]) == {ANN: SENT if goes_again else OUTCOMES[fault]}
    assert used == (1 if goes_again or not is_reused else 0)
    assert shorts(results[-1]) == {ANN: SENT}
    check_conserved(sink, results)


async def test_a_message_is_sent_again_once_and_no_more(worker: Worker) -> None:
    async with SmtpSink() as sink:
        assert await worker.outcome(sink) == SENT
        sink.script["MAIL"] = HANG_UP
        assert await worker.outcome(sink) == "deferred 421 next_hop_reply"
    assert sink.connections == 2


async def test_what_was_taken_without_a_word_on_a_used_connection_is_ambiguous(worker: Worker) -> None:
    async with SmtpSink(extensions=WAYS["one flight"]) as sink:
        results = [await worker.send(sink)]
        sink.script["message"] = [TAKE_AND_DROP]
        results.append(await worker.send(sink))
    assert results[1].ambiguous
    assert sink.connections == 1
    check_conserved(sink, results)


class Crowded(SmtpSink):
    """Counts the sessions that are open at a time."""

    open = most = 0

    async def act(self, stage: str, argument: str, session: Session) -> Act | None:
        if stage == "connect":
            self.open += 1
            self.most = max(self.most, self.open)
        elif stage == "QUIT":
            self.open -= 1
        return await super().act(stage, argument, session)


async def test_where_a_limit_comes_up_what_stayed_open_without_one_is_closed_first(worker: Worker) -> None:
    async with Crowded(latency=0.005) as sink:
        free = replace(endpoint(sink), site="site")
        await asyncio.gather(*(worker.send(free) for _ in range(5)))
        other = replace(endpoint(sink), site="other")
        assert await worker.outcome(other) == SENT
        assert (worker.pool.idle, sink.open) == (6, 6)
        counted = replace(free, is_counted=True)
        channel = await worker.pool.connect(counted, deadline=20)
        # One for whom the right is, and the other site's.
        assert sink.open == 2
        await channel.close()
        assert await worker.outcome(counted) == SENT
        assert sink.open == 2


async def test_a_kept_connection_is_used_by_the_policy_of_now(worker: Worker) -> None:
    async with SmtpSink() as sink:
        assert await worker.outcome(endpoint(sink)) == SENT
        shorter = replace(endpoint(sink), messages_per_connection=2)
        for _ in range(4):
            assert await worker.outcome(shorter) == SENT
        # None stays open that has had as many as policy now allows.
        assert (sink.connections, worker.pool.idle) == (3, 1)


@pytest.mark.parametrize("limit", [1, 3])
async def test_counted_connections_are_never_more_than_their_limit_over_all_workers(limit: int) -> None:
    gates, ids, clock = MemoryGates(), SequentialIds(), ManualClock(auto=True)
    policy = read_policy({"max_connections": limit})
    metrics = CountedMetrics()
    async with Crowded(latency=0.002) as sink:
        hosts = [
            replace(endpoint(sink, host=host), site="site", is_counted=True)
            for host in ("mx1.test", "mx2.test")
        ]

        async def deliver(pool: ConnectionPool, keeper: Gatekeeper, number: int) -> None:
            while True:
                until = clock.now() + timedelta(hours=1)
                admitted = await keeper.admit(
                    "site",
                    policy,
                    slot=None,
                    priority="normal",
                    owner=ids.new_id(),
                    until=until,
                    time_left=lambda: 3600,
                )
                if not isinstance(admitted, HeldBack):
                    break
                await asyncio.sleep(0.005)
            try:
                channel = await pool.connect(hosts[number % 7 == 0], deadline=20)
                result = await channel.transact(transaction(recipients=[ANN]))
                assert shorts(result) == {ANN: SENT}
                admitted.hear(result.outcomes.values())
                await channel.close()
            finally:
                await keeper.close(admitted)

        async def work() -> None:
            pool = ConnectionPool(dialer(), clock, metrics)
            keeper = Gatekeeper(gates, clock, ids, metrics, pool.close_idle)
            for _ in range(2):  # invocations
                await asyncio.gather(*(deliver(pool, keeper, number) for number in range(10)))
                assert pool.idle == 0  # no worker keeps what others may need

        await asyncio.gather(*(work() for _ in range(3)))
    assert len(sink.accepted) == 60
    assert sink.most <= limit
    assert metrics.counts["connections_reused"] > 0
    assert not gates.connections
