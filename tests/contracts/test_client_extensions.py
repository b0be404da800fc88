"""What the client makes of a next hop's offer: flights, limits, and extensions that do not work.

Flights are counted at the sink: what came between two times that the client waited.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from empath.domain.errors import SpoolTrouble
from empath.net.channel import SmtpChannel
from empath.net.dialer import SmtpDialer
from empath.net.extension_memory import DAY, ExtensionMemory
from empath.ports import Transaction
from empath.testing.certificates import server_context
from empath.testing.smtp_sink import DROP, RESET, STALL, TAKE_AND_DROP, Act, Script, Session, SmtpSink, Step
from tests.unit.net.sending import ANN, BOB, CONTENT, HURRIED, dialer, endpoint, send, shorts, transaction

ONE_FLIGHT = ("PIPELINING", "CHUNKING", "SIZE", "8BITMIME")
LARGE = b"x" * 78 + b"\r\n"
SENT = {ANN: "sent 250", BOB: "sent 250"}


def verbs(flights: list[list[str]]) -> list[str]:
    """`MAIL RCPT RCPT BDAT`, one text per flight."""
    return [" ".join(re.split(r"[ :]", command)[0] for command in flight) for flight in flights]


class Remembering:
    """A dialer whose memory is on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.memory = ExtensionMemory(lambda: self.now)
        self.dialer = SmtpDialer("relay.example.test", timeouts=HURRIED, memory=self.memory)

    async def connect(self, sink: SmtpSink) -> SmtpChannel:
        return await self.dialer.connect(endpoint(sink), deadline=20)

    async def send(self, sink: SmtpSink, mail: Transaction | None = None) -> tuple[dict[str, str], bool]:
        """The outcomes, and whether they are ambiguous."""
        channel = await self.connect(sink)
        result = await channel.transact(mail or transaction())
        await channel.close()
        return shorts(result), result.ambiguous


class TestFlights:
    async def flights(self, offered: tuple[str, ...], content: bytes = CONTENT, **how: object) -> list[str]:
        """Of the second message on a connection."""
        async with SmtpSink(extensions=offered, **how) as sink:  # type: ignore[arg-type]
            channel = await dialer().connect(endpoint(sink), deadline=20)
            await channel.transact(transaction())
            before = len(sink.sessions[0].flights)
            assert shorts(await channel.transact(transaction(content))) == SENT
            flights = sink.sessions[0].flights[before:]
            await channel.close()
        assert sink.connections == 1
        return verbs(flights)

    async def test_one_for_a_message_with_chunking_on_a_warm_connection(self) -> None:
        assert await self.flights(ONE_FLIGHT) == ["MAIL RCPT RCPT BDAT"]

    async def test_one_through_tls_too(self) -> None:
        assert await self.flights(ONE_FLIGHT, tls=server_context()) == ["MAIL RCPT RCPT BDAT"]

    async def test_two_with_pipelining(self) -> None:
        assert await self.flights(("PIPELINING",)) == ["MAIL RCPT RCPT DATA", "."]

    async def test_each_command_its_own_without(self) -> None:
        assert await self.flights(()) == ["MAIL", "RCPT", "RCPT", "DATA", "."]
        assert await self.flights(("CHUNKING",)) == ["MAIL", "RCPT", "RCPT", "BDAT"]

    async def test_larger_content_waits_for_the_envelope_first(self) -> None:
        assert await self.flights(ONE_FLIGHT, LARGE * 3000) == ["MAIL RCPT RCPT", "BDAT"]
        envelope, *chunks = await self.flights(ONE_FLIGHT, LARGE * 30_000)
        assert envelope == "MAIL RCPT RCPT"
        assert " ".join(chunks) == "BDAT BDAT BDAT"


PIPELINING_FAULTS: dict[str, Step] = {
    "503": "503 5.5.0 Improper use of SMTP command pipelining",
    "500": "500 5.5.1 What",
    "drop": DROP,
    "reset": RESET,
    "stall": STALL,
    "garbage": b"\x00\r\n",
}
BDAT_FAULTS: dict[str, Step] = {
    "500": "500 5.5.1 What",
    "502": "502 5.5.1 Not implemented",
    "503": "503 5.5.1 Not now",
}


class TestBrokenExtensions:
    @pytest.mark.parametrize("fault", PIPELINING_FAULTS)
    async def test_mail_is_sent_again_without_pipelining_and_for_a_day_it_is_left_off(
        self, fault: str
    ) -> None:
        client = Remembering()
        async with SmtpSink({"pipelined": PIPELINING_FAULTS[fault]}, extensions=("PIPELINING",)) as sink:
            assert await client.send(sink) == (SENT, False)
            assert sink.connections == 2
            client.now += DAY - 1
            assert await client.send(sink) == (SENT, False)
            assert sink.connections == 3
            client.now += 2
            assert await client.send(sink) == (SENT, False)
            assert sink.connections == 5
        assert len(sink.messages) == 3

    @pytest.mark.parametrize("fault", BDAT_FAULTS)
    async def test_mail_is_sent_again_without_chunking_and_for_a_day_it_is_left_off(self, fault: str) -> None:
        client = Remembering()
        async with SmtpSink({"BDAT": BDAT_FAULTS[fault]}, extensions=ONE_FLIGHT) as sink:
            assert await client.send(sink) == (SENT, False)
            assert verbs(sink.sessions[1].flights[1:3]) == ["MAIL RCPT RCPT DATA", "."]
            assert await client.send(sink) == (SENT, False)
        assert sink.connections == 3
        assert len(sink.messages) == 2

    @pytest.mark.parametrize("act", [DROP, RESET])
    async def test_a_connection_lost_at_a_chunk_before_the_last_is_no_ambiguity_and_data_is_tried(
        self, act: Act
    ) -> None:
        client = Remembering()
        async with SmtpSink({"BDAT": act}, extensions=ONE_FLIGHT) as sink:
            assert await client.send(sink, transaction(LARGE * 200_000)) == (SENT, False)
        assert sink.connections == 2
        assert len(sink.messages) == 1

    async def test_a_next_hop_that_reads_bdat_content_as_commands_gets_it_by_data(self) -> None:
        client = Remembering()
        async with SmtpSink(extensions=ONE_FLIGHT, unknown=["BDAT"]) as sink:
            assert await client.send(sink) == (SENT, False)
            assert await client.send(sink) == (SENT, False)
        assert sink.connections == 3
        assert [message.content for message in sink.messages] == [CONTENT] * 2

    async def test_and_refused_recipients_are_told_from_the_confusion(self) -> None:
        client = Remembering()
        script: Script = {"RCPT": "550 5.1.1 Unknown"}
        async with SmtpSink(script, extensions=ONE_FLIGHT, unknown=["BDAT"]) as sink:
            assert await client.send(sink) == (dict.fromkeys(SENT, "failed 550 next_hop_reply"), False)
        assert not sink.messages

    @pytest.mark.parametrize("act", [DROP, RESET, STALL])
    async def test_a_flight_that_may_have_been_taken_is_not_sent_again_but_the_next_goes_more_carefully(
        self, act: Act
    ) -> None:
        client = Remembering()
        async with SmtpSink({"pipelined": act}, extensions=ONE_FLIGHT) as sink:
            outcomes, is_ambiguous = await client.send(sink)
            assert is_ambiguous
            assert set(outcomes.values()) <= {"deferred 451 connection_lost", "deferred 451 timeout"}
            assert sink.connections == 1
            assert await client.send(sink) == (SENT, False)
        assert len(sink.messages) == 1

    async def test_a_message_that_was_taken_is_never_sent_twice_by_a_retry(self) -> None:
        client = Remembering()
        async with SmtpSink({"message": [TAKE_AND_DROP]}, extensions=ONE_FLIGHT) as sink:
            _, is_ambiguous = await client.send(sink)
        assert is_ambiguous
        assert len(sink.accepted) == 1
        assert sink.connections == 1

    async def test_an_extension_that_worked_is_not_blamed_for_a_lost_connection(self) -> None:
        client = Remembering()
        async with SmtpSink({"MAIL": ["250 2.1.0 Ok", DROP, DROP]}, extensions=("PIPELINING",)) as sink:
            channel = await client.connect(sink)
            assert shorts(await channel.transact(transaction())) == SENT
            lost = await channel.transact(transaction())
            await channel.close()
            assert set(shorts(lost).values()) == {"deferred 451 connection_lost"}
            assert sink.connections == 2  # the first one might have been idle for too long
            assert await client.send(sink) == (SENT, False)
        assert verbs(sink.sessions[2].flights[1:3]) == ["MAIL RCPT RCPT DATA", "."]

    async def test_an_extension_without_which_the_same_happens_is_acquitted(self) -> None:
        client = Remembering()
        script: Script = {"MAIL": "503 5.5.1 Never"}
        async with SmtpSink(script, extensions=("PIPELINING",)) as sink:
            for _ in range(3):
                outcomes, is_ambiguous = await client.send(sink)
                assert set(outcomes.values()) == {"failed 503 next_hop_reply"}
                assert not is_ambiguous
            assert sink.connections == 4
            sink.script["MAIL"] = []
            assert await client.send(sink) == (SENT, False)
        assert verbs(sink.sessions[-1].flights[1:3]) == ["MAIL RCPT RCPT DATA", "."]

    @pytest.mark.parametrize("offered", [("PIPELINING",), ONE_FLIGHT])
    async def test_nothing_is_blamed_where_somebody_was_accepted(self, offered: tuple[str, ...]) -> None:
        client = Remembering()
        async with SmtpSink({f"RCPT {BOB}": "503 5.5.1 Not you"}, extensions=offered) as sink:
            assert await client.send(sink) == ({ANN: "sent 250", BOB: "failed 503 next_hop_reply"}, False)
        assert sink.connections == 1
        assert not client.memory.left_off("mx.sink.test", offered)

    async def test_one_host_says_nothing_about_another(self) -> None:
        client = Remembering()
        async with SmtpSink({"pipelined": RESET}, extensions=("PIPELINING",)) as broken:
            await client.send(broken)
        assert client.memory.left_off("mx.sink.test", {"PIPELINING"}) == {"PIPELINING"}
        assert client.memory.left_off("mx2.sink.test", {"PIPELINING"}) == frozenset()

    async def test_when_no_other_connection_can_be_had_the_first_outcome_stands(self) -> None:
        client = Remembering()
        script: Script = {"pipelined": RESET, "connect": ["220 hello", "554 5.3.2 No more"]}
        async with SmtpSink(script, extensions=("PIPELINING",)) as sink:
            outcomes, is_ambiguous = await client.send(sink)
        assert set(outcomes.values()) == {"deferred 451 connection_lost"}
        assert not is_ambiguous

    async def test_report_parameters_that_are_refused_are_left_out(self) -> None:
        client = Remembering()
        mail = transaction()
        asking = Transaction(mail.reverse_path, [ANN], mail.content, mail.size, envid="QQ1", ret="HDRS")
        script: Script = {"MAIL": ["555 5.5.4 Unsupported option: RET"]}
        async with SmtpSink(script, extensions=(*ONE_FLIGHT, "DSN")) as sink:
            assert await client.send(sink, asking) == ({ANN: "sent 250"}, False)
        assert sink.accepted[0].parameters == ("SIZE=25",)


class TestLimits:
    async def test_recipients_beyond_rcptmax_are_sent_in_further_transactions(self) -> None:
        names = [f"r{number}@example.test" for number in range(7)]
        async with SmtpSink(
            {"RCPT r6@example.test": "550 5.1.1 Unknown"}, extensions=(*ONE_FLIGHT, "LIMITS RCPTMAX=3")
        ) as sink:
            result = await send(sink, transaction(recipients=names))
        assert list(result.outcomes) == names
        assert [shorts(result)[name] for name in names] == ["sent 250"] * 6 + ["failed 550 next_hop_reply"]
        assert [message.recipients for message in sink.accepted] == [tuple(names[:3]), tuple(names[3:6])]
        assert sink.connections == 1

    @pytest.mark.parametrize(
        "reply", ["452 4.5.3 Too many", "452 Too many", "552 Too many", "552 5.5.3 Too many"]
    )
    @pytest.mark.parametrize("offered", [(), ONE_FLIGHT])
    async def test_recipients_that_were_too_many_are_sent_the_message_right_after(
        self, offered: tuple[str, ...], reply: str
    ) -> None:
        class Three(SmtpSink):
            async def act(self, stage: str, argument: str, session: Session) -> Act | None:
                return Act(reply) if stage == "RCPT" and len(session.recipients) == 3 else None

        names = [f"r{number}@example.test" for number in range(7)]
        async with Three(extensions=offered) as sink:
            result = await send(sink, transaction(recipients=names))
        assert [shorts(result)[name] for name in names] == ["sent 250"] * 7
        assert [len(message.recipients) for message in sink.accepted] == [3, 3, 1]
        assert sink.connections == 1

    @pytest.mark.parametrize(
        "reply", ["452 4.2.2 Full", "452 4.3.1 No space", "450 4.5.3 What", "452 4.5.3 Never"]
    )
    async def test_one_that_is_refused_for_itself_waits_for_the_next_attempt(self, reply: str) -> None:
        async with SmtpSink({f"RCPT {BOB}": reply}, extensions=ONE_FLIGHT) as sink:
            result = await send(sink)
        assert shorts(result) == {ANN: "sent 250", BOB: f"deferred {reply[:3]} next_hop_reply"}
        assert len(sink.messages) == 1

    async def test_transactions_beyond_mailmax_go_on_another_connection(self) -> None:
        async with SmtpSink(extensions=(*ONE_FLIGHT, "LIMITS MAILMAX=2")) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            for number in range(5):
                assert channel.is_usable is (number not in (2, 4))
                assert shorts(await channel.transact(transaction())) == SENT
            await channel.close()
        mails = [sum(command.startswith("MAIL") for command in session.commands) for session in sink.sessions]
        assert mails == [2, 2, 1]

    async def test_domains_beyond_rcptdomainmax_go_on_another_connection(self) -> None:
        names = ["a@x.test", "b@y.test", "c@X.test", "d@z.test"]
        async with SmtpSink(extensions=(*ONE_FLIGHT, "LIMITS RCPTDOMAINMAX=2")) as sink:
            result = await send(sink, transaction(recipients=names))
        assert set(shorts(result).values()) == {"sent 250"}
        assert [message.recipients for message in sink.accepted] == [
            ("a@x.test", "c@X.test", "b@y.test"),
            ("d@z.test",),
        ]
        assert sink.connections == 2

    async def test_a_lost_part_of_a_split_transaction_does_not_take_the_others_along(self) -> None:
        script: Script = {"message": ["250 2.0.0 Ok", TAKE_AND_DROP]}
        names = ["a@x.test", "b@x.test", "c@x.test"]
        async with SmtpSink(script, extensions=(*ONE_FLIGHT, "LIMITS RCPTMAX=1")) as sink:
            result = await send(sink, transaction(recipients=names))
        assert list(shorts(result).values()) == ["sent 250", "deferred 451 connection_lost", "sent 250"]
        assert result.ambiguous
        assert [message.recipients for message in sink.accepted] == [
            ("a@x.test",),
            ("b@x.test",),
            ("c@x.test",),
        ]

    async def test_a_message_above_the_size_that_is_offered_is_not_offered(self) -> None:
        async with SmtpSink(extensions=("SIZE 20",)) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            result = await channel.transact(transaction())
            assert channel.is_usable
            await channel.close()
        assert set(shorts(result).values()) == {"failed 552 too_big"}
        assert sink.sessions[0].commands == ["EHLO relay.example.test", "QUIT"]


async def test_report_parameters_reach_a_next_hop_with_dsn() -> None:
    mail = transaction()
    asking = Transaction(
        mail.reverse_path,
        [ANN, BOB],
        mail.content,
        mail.size,
        notify={ANN: ("SUCCESS", "FAILURE")},
        orcpt={ANN: "rfc822;ann@first.test"},
        envid="QQ1",
        ret="FULL",
    )
    async with SmtpSink(extensions=(*ONE_FLIGHT, "DSN")) as sink:
        assert shorts(await send(sink, asking)) == SENT
    assert sink.accepted[0].parameters == ("SIZE=25", "RET=FULL", "ENVID=QQ1")
    assert sink.accepted[0].rcpt_parameters == (("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;ann@first.test"), ())


class TestReuse:
    async def test_a_channel_carries_transaction_after_transaction(self) -> None:
        script: Script = {"RCPT": ["550 5.1.1 Unknown"] * 2, "message": ["451 4.3.0 Later"]}
        async with SmtpSink(script, extensions=ONE_FLIGHT) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            ends = []
            for _ in range(4):
                ends.append(set(shorts(await channel.transact(transaction(), deadline=20)).values()))
                assert channel.is_usable
            await channel.close()
            assert not channel.is_usable
        assert ends == [
            {"failed 550 next_hop_reply"},
            {"deferred 451 next_hop_reply"},
            {"sent 250"},
            {"sent 250"},
        ]
        assert sink.connections == 1
        # Reset only where a transaction was left unfinished, and not for a round trip of its own.
        assert verbs(sink.sessions[0].flights) == [
            "EHLO",
            "MAIL RCPT RCPT BDAT",
            "RSET MAIL RCPT RCPT BDAT",
            "RSET MAIL RCPT RCPT BDAT",
            "MAIL RCPT RCPT BDAT",
            "QUIT",
        ]

    @pytest.mark.parametrize(
        "act", [DROP, RESET, STALL, Act("421 4.3.2 Closing", then="close"), Act(b"\x00\r\n")]
    )
    async def test_a_sign_of_life_is_asked_for_and_its_absence_ends_the_channel(self, act: Act) -> None:
        async with SmtpSink({"RSET": ["250 2.0.0 Ok", act]}) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            signs = [(await channel.reset(deadline=5), channel.is_usable) for _ in range(3)]
            await channel.close()
        assert signs == [(True, True), (False, False), (False, False)]

    async def test_a_connection_that_the_next_hop_closed_is_seen_before_it_is_used(self) -> None:
        script: Script = {"message": [Act("250 2.0.0 Ok", then="close")]}
        async with SmtpSink(script, extensions=ONE_FLIGHT) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            assert shorts(await channel.transact(transaction())) == SENT
            while channel.is_usable:
                assert not await channel.reset(deadline=5)
            again = await channel.transact(transaction())
            await channel.close()
        assert set(shorts(again).values()) == {"deferred 451 connection_lost"}
        assert not again.ambiguous

    async def test_a_farewell_between_transactions_is_heard_in_its_own_words(self) -> None:
        script: Script = {"message": [b"250 2.0.0 Ok\r\n421 4.4.2 Idle too long\r\n"]}
        async with SmtpSink(script, extensions=("PIPELINING",)) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            assert shorts(await channel.transact(transaction())) == SENT
            assert not channel.is_usable
            await channel.close()

    async def test_a_farewell_that_comes_later_is_everybodys_reply(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mx.sink.test\r\n")
            await reader.readline()
            writer.write(b"250 mx.sink.test\r\n")
            await reader.readline()
            writer.write(b"250 2.0.0 Ok\r\n")
            await asyncio.sleep(0.05)
            writer.write(b"421 4.4.2 Idle too long\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            channel = await dialer().connect(endpoint(port), deadline=20)
            assert await channel.reset()
            async with asyncio.timeout(5):
                while channel.is_usable:
                    await asyncio.sleep(0.01)
            result = await channel.transact(transaction())
            await channel.close()
        assert set(shorts(result).values()) == {"deferred 421 next_hop_reply"}
        assert not result.ambiguous

    async def test_a_closed_channel_connects_to_nobody(self) -> None:
        async with SmtpSink(extensions=(*ONE_FLIGHT, "LIMITS MAILMAX=1")) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            assert shorts(await channel.transact(transaction())) == SENT
            await channel.close()
            late = await channel.transact(transaction())
        assert set(shorts(late).values()) == {"deferred 451 connection_lost"}
        assert sink.connections == 1

    async def test_content_that_fails_before_anything_was_said_leaves_the_channel_usable(self) -> None:
        async def read() -> AsyncIterator[bytes]:
            for octets in [b"Subject: x", b"\r\n"]:
                if octets == b"\r\n":
                    raise SpoolTrouble("no S3")
                yield octets

        async with SmtpSink(extensions=ONE_FLIGHT) as sink:
            channel = await dialer().connect(endpoint(sink), deadline=20)
            with pytest.raises(SpoolTrouble):
                await channel.transact(Transaction("a@b.test", [ANN], read, 10))
            assert channel.is_usable
            assert shorts(await channel.transact(transaction())) == SENT
            await channel.close()
        assert sink.connections == 1

    async def test_a_transaction_has_its_own_deadline(self) -> None:
        async with SmtpSink({"message": ["250 2.0.0 Ok", STALL]}, extensions=ONE_FLIGHT) as sink:
            channel = await SmtpDialer("relay.example.test").connect(endpoint(sink), deadline=20)
            assert shorts(await channel.transact(transaction())) == SENT
            late = await channel.transact(transaction(), deadline=0.3)
            await channel.close()
        assert set(shorts(late).values()) == {"deferred 451 timeout"}
        assert late.ambiguous


def test_the_memory_is_bounded() -> None:
    memory = ExtensionMemory(lambda: 0.0)
    for number in range(10_001):
        memory.leave_off(f"mx{number}.test", {"CHUNKING"})
    assert memory.left_off("mx0.test", {"CHUNKING"}) == frozenset()
    assert memory.left_off("mx1.test", {"CHUNKING"}) == {"CHUNKING"}
