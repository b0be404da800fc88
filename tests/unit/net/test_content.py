"""What arrives is what was handed over, octet for octet, or nothing arrives at all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empath.domain.errors import SpoolObjectMissing, SpoolTrouble
from empath.ports import Transaction
from empath.smtp.client import BLOCK
from empath.smtp.client.stuffing import DotStuffer
from empath.testing.certificates import server_context
from empath.testing.smtp_sink import DEAF, EXTENSIONS, SmtpSink
from tests.unit.net.sending import ANN, BOB, CONTENT, dialer, endpoint, send, short, shorts, transaction

CONTENTS = {
    "nothing": b"",
    "a line end": b"\r\n",
    "a dot": b".\r\n",
    "dots": b"..\r\n.\r\n...\r\n" * 50,
    "what looks like the end": b"Subject: x\r\n\r\n\r\n.\r\nQUIT\r\n",
    "no body": b"Subject: x\r\n\r\n",
    "a line of 998 octets": b"x" * 998 + b"\r\n",
    "UTF-8": "Subject: Grüße\r\n\r\nÄöü 🙂\r\n".encode(),
    "every octet": bytes(octet for octet in range(256) if octet not in b"\r\n") + b"\r\n",
    "a dot at every border of blocks": (b"x" * (BLOCK - 2) + b"\r\n.") * 3 + b"\r\n",
    "10 MB": (b"." + b"x" * 76 + b"\r\n") * 130_000,
}


@pytest.mark.parametrize("name", CONTENTS)
async def test_content_arrives_byte_for_byte(name: str) -> None:
    async with SmtpSink() as sink:
        result = await send(sink, transaction(CONTENTS[name]))
    assert shorts(result) == {ANN: "sent 250", BOB: "sent 250"}
    assert [message.content for message in sink.accepted] == [CONTENTS[name]]


async def test_content_arrives_byte_for_byte_through_tls() -> None:
    async with SmtpSink(tls=server_context()) as sink:
        await send(sink, transaction(CONTENTS["10 MB"]))
    assert sink.sessions[0].tls
    assert sink.accepted[0].content == CONTENTS["10 MB"]


@pytest.mark.parametrize("content", [b"x", b"x\r", b"x\r\n\r", b"x\n", b"."])
async def test_only_a_missing_line_end_is_added(content: bytes) -> None:
    async with SmtpSink() as sink:
        await send(sink, transaction(content))
    assert sink.accepted[0].content == content + b"\r\n"


@pytest.mark.parametrize("content", [b"a\n.\r\n", b"a\r.\r\n", b"a\n.\nb\r\n"])
async def test_bare_line_ends_are_left_alone(content: bytes) -> None:
    async with SmtpSink() as sink:
        await send(sink, transaction(content))
    assert sink.accepted[0].content == content


pieces = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"x", b"\r\n.", b"\r\n.\r\n", b"\xff"]), max_size=40
)


@given(pieces=pieces, cuts=st.lists(st.integers(0, 80), max_size=8))
def test_stuffing_does_not_depend_on_where_the_blocks_end(pieces: list[bytes], cuts: list[int]) -> None:
    content = b"".join(pieces) + b"\r\n"
    borders = [0, *sorted(cut for cut in cuts if cut <= len(content)), len(content)]
    stuffer = DotStuffer()
    blocks = [content[begin:end] for begin, end in itertools.pairwise(borders)]
    wire = b"".join(map(stuffer.feed, blocks)) + stuffer.end()
    whole = DotStuffer()
    assert wire == whole.feed(content) + whole.end()
    # The only CRLF.CRLF is at the end, and taking the first dot off each line gives the content back.
    primed = b"\r\n" + wire
    assert primed.find(b"\r\n.\r\n") == len(primed) - 5
    assert primed[:-3].replace(b"\r\n.", b"\r\n")[2:] == content


@settings(max_examples=30, deadline=None)
@given(pieces=pieces, cuts=st.lists(st.integers(1, 20), max_size=8))
def test_any_content_in_any_chunks_arrives_byte_for_byte(pieces: list[bytes], cuts: list[int]) -> None:
    content = b"".join(pieces) + b"\r\n"
    chunks = []
    rest = content
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    chunks.append(rest)

    async def deliver() -> list[bytes]:
        async with SmtpSink() as sink:
            await send(sink, transaction(chunks))
        return [message.content for message in sink.accepted]

    assert asyncio.run(deliver()) == [content]


@pytest.mark.parametrize("error", [SpoolTrouble("no S3"), SpoolObjectMissing("no object")])
@pytest.mark.parametrize("before", [0, 10, 5 * BLOCK])
async def test_content_that_fails_is_never_a_message(error: Exception, before: int) -> None:
    async def read() -> AsyncIterator[bytes]:
        for _ in range(before // 10):
            yield b"12345678\r\n"
        raise error

    async with SmtpSink() as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        with pytest.raises(type(error)):
            await channel.transact(Transaction("a@b.test", [ANN], read, 10))
        await channel.close()
        await asyncio.sleep(0.05)
    assert not sink.messages


@pytest.mark.parametrize("error", [SpoolTrouble("S3 is away"), SpoolObjectMissing("it is gone")])
async def test_who_was_sent_the_message_stays_sent_when_it_cannot_be_read_again(error: Exception) -> None:
    """RCPTMAX makes two transactions of one delivery; the second one's trouble is not the first one's."""
    passes = itertools.count()

    async def content() -> AsyncIterator[bytes]:
        if next(passes):
            raise error
        yield CONTENT

    mail = Transaction("sender@example.test", [ANN, BOB], content, len(CONTENT))
    async with SmtpSink(extensions=(*EXTENSIONS, "LIMITS RCPTMAX=1")) as sink:
        result = await send(sink, mail)
    assert [message.recipients for message in sink.accepted] == [(ANN,)]
    assert shorts(result) == {ANN: "sent 250", BOB: "deferred 451 worker_failed"}


async def test_a_cancelled_transaction_is_never_a_message() -> None:
    async def read() -> AsyncIterator[bytes]:
        yield b"x\r\n" * BLOCK
        await asyncio.sleep(60)

    async with SmtpSink() as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        sending = asyncio.create_task(channel.transact(Transaction("a@b.test", [ANN], read, 10)))
        await asyncio.sleep(0.2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await channel.close()
        await asyncio.sleep(0.05)
    assert not sink.messages
    assert sink.sessions[0].partial


@pytest.mark.parametrize("offered", [(), ("PIPELINING", "CHUNKING")])
async def test_content_is_read_no_faster_than_it_is_taken(offered: tuple[str, ...]) -> None:
    reads = []

    async def read() -> AsyncIterator[bytes]:
        for _ in range(16_384):
            reads.append(1)
            yield b"x" * 65_534 + b"\r\n"

    async with SmtpSink({"content": DEAF}, extensions=offered) as sink:
        result = await send(sink, Transaction("a@b.test", [ANN], read, 2**30))
    assert shorts(result) == {ANN: "deferred 451 timeout"}
    # What the sockets of both sides hold, and a few blocks: nothing near a gigabyte.
    assert len(reads) < 300


async def test_a_next_hop_that_talks_without_end_is_cut_off_while_content_is_slow() -> None:
    async def read() -> AsyncIterator[bytes]:
        for _ in range(20):
            await asyncio.sleep(0.01)
            yield b"x\r\n"

    async with SmtpSink({"DATA": b"354 go\r\n" + b"250-x\r\n" * 200_000}) as sink, asyncio.timeout(5):
        result = await send(sink, Transaction("a@b.test", [ANN], read, 60))
    assert shorts(result) == {ANN: "deferred 451 protocol_error"}
    assert not result.ambiguous


async def test_content_is_not_read_when_nobody_takes_it() -> None:
    reads = []

    async def read() -> AsyncIterator[bytes]:
        reads.append(1)
        yield b"x\r\n"

    async with SmtpSink({"RCPT": "550 5.1.1 Unknown"}) as sink:
        await send(sink, Transaction("a@b.test", [ANN], read, 10))
    assert not reads


async def test_one_session_carries_many_transactions() -> None:
    nobody, later = "554 5.5.1 No valid recipients", "451 4.3.0 Later"
    async with SmtpSink({"RCPT": ["550 5.1.1 Unknown"], "DATA": [nobody, later]}) as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        outcomes = [
            short((await channel.transact(transaction(recipients=[ANN]))).outcomes[ANN]) for _ in range(4)
        ]
        await channel.close()
    assert outcomes == ["failed 550 next_hop_reply", "deferred 451 next_hop_reply", "sent 250", "sent 250"]
    assert sink.connections == 1


class TestParameters:
    """What MAIL says, by what the next hop offers."""

    async def parameters(self, offered: tuple[str, ...], **mail: bool) -> tuple[str, ...]:
        async with SmtpSink(extensions=offered) as sink:
            result = await send(sink, transaction(**mail))  # type: ignore[arg-type]
        assert set(shorts(result).values()) == {"sent 250"}
        return sink.accepted[0].parameters

    async def test_size_where_offered(self) -> None:
        assert await self.parameters(("SIZE",)) == ("SIZE=25",)
        assert await self.parameters(("SIZE 1000",)) == ("SIZE=25",)

    async def test_nothing_where_nothing_is_offered(self) -> None:
        assert await self.parameters(()) == ()

    async def test_8bitmime_where_offered_and_needed(self) -> None:
        assert await self.parameters(("8BITMIME",), eight_bit=True) == ("BODY=8BITMIME",)
        assert await self.parameters(("8BITMIME",)) == ()

    async def test_8_bit_content_goes_to_a_next_hop_without_8bitmime_all_the_same(self) -> None:
        assert await self.parameters((), eight_bit=True) == ()

    async def test_smtputf8_where_offered_and_needed(self) -> None:
        assert await self.parameters(("SMTPUTF8",), smtputf8=True) == ("SMTPUTF8",)
        assert await self.parameters(("SMTPUTF8",)) == ()


async def test_mail_that_needs_smtputf8_fails_where_it_is_not_offered() -> None:
    async with SmtpSink(extensions=EXTENSIONS) as sink:
        result = await send(sink, transaction(smtputf8=True))
    assert set(shorts(result).values()) == {"failed 553 needs_smtputf8"}
    assert str(result.outcomes[ANN].reply.status) == "5.6.7"
    assert not sink.messages


async def test_only_recipients_that_need_smtputf8_fail() -> None:
    async with SmtpSink(extensions=EXTENSIONS) as sink:
        result = await send(sink, transaction(recipients=["jörg@example.test", ANN, "bob@bücher.test"]))
    assert shorts(result) == {
        "jörg@example.test": "failed 553 needs_smtputf8",
        ANN: "sent 250",
        "bob@bücher.test": "sent 250",
    }
    assert sink.accepted[0].recipients == (ANN, "bob@xn--bcher-kva.test")


async def test_addresses_go_as_they_are_where_smtputf8_is_offered() -> None:
    async with SmtpSink(extensions=("SMTPUTF8",)) as sink:
        await send(sink, transaction(recipients=["jörg@bücher.test"]))
    assert sink.accepted[0].recipients == ("jörg@bücher.test",)


@pytest.mark.parametrize("address", ['"a b"@x.test', '"a>b"@x.test', '"a\\"b"@x.test', "a+b=c@x.test"])
async def test_odd_addresses_arrive_as_they_are(address: str) -> None:
    async with SmtpSink() as sink:
        await send(sink, transaction(recipients=[address], reverse_path=address))
    assert sink.accepted[0].recipients == (address,)
    assert sink.accepted[0].reverse_path == address


async def test_the_null_reverse_path() -> None:
    async with SmtpSink() as sink:
        await send(sink, transaction(reverse_path=""))
    assert sink.accepted[0].reverse_path == ""
    assert "MAIL FROM:<> SIZE=25" in sink.sessions[0].commands


async def test_a_line_break_in_an_address_never_reaches_the_wire() -> None:
    injected = "x@y.test>\r\nRCPT TO:<victim@y.test"
    async with SmtpSink() as sink:
        result = await send(sink, transaction(recipients=[injected, ANN]))
    assert shorts(result) == {injected: "failed 553 protocol_error", ANN: "sent 250"}
    assert sink.accepted[0].recipients == (ANN,)
