"""Clients that want to hurt: too long, too many, too fast, never ending. The rule: every resource that a
client can spend has a bound, and an honest session beside it goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from empath.ingress.settings import Timeouts

HELLO = b"EHLO evil.example\r\n"
ENVELOPE = b"MAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\n"
HONEST = HELLO + ENVELOPE + b"BDAT 4 LAST\r\nhi\r\nQUIT\r\n"


async def goes_on(target: Any) -> None:
    before = len(target.jobs())
    replies = await target.attack(HONEST)
    assert replies[-1] == "221 2.0.0 Bye"
    assert len(target.jobs()) == before + 1


@pytest.mark.parametrize(
    "command",
    [
        b"MAIL FROM:<" + b"a" * 100_000 + b"@one.example>",
        b"EHLO " + b"x" * 3000,
        b"NOOP " + b"x" * 2047,
        b"RCPT TO:<b@two.example> " + b"X=" + b"y" * 5000,
        b"\x00" * 5000,
        b"BDAT 1" + b" " * 4000 + b"LAST",
    ],
)
async def test_an_overlong_command_is_one_refusal_and_is_held_nowhere(target: Any, command: bytes) -> None:
    """RFC 5321 §4.5.3.1.4; the rest of the line is thrown away as it comes."""
    replies = await target.attack(HELLO, command + b"\r\n", b"QUIT\r\n")
    assert replies[-2:] == ["500 5.5.2 Line too long", "221 2.0.0 Bye"]


async def test_a_line_that_never_ends_costs_no_memory(target: Any) -> None:
    replies = await target.attack(HELLO, *[b"x" * 65_536] * 100, pause=0)
    assert replies[-1] == "500 5.5.2 Line too long"
    await goes_on(target)


async def test_an_overlong_line_of_content_passes_as_it_is(target: Any) -> None:
    """RFC 5321 §4.5.3.1 asks for no limit where none is needed: nothing here holds lines."""
    line = b"x" * 1_000_000
    await target.attack(HELLO + ENVELOPE + b"DATA\r\n", line + b"\r\n.\r\nQUIT\r\n")
    assert target.messages == [line + b"\r\n"]


async def test_endless_nonsense_ends_with_421(target: Any) -> None:
    replies = await target.attack(b"GET / HTTP/1.1\r\nHost: mx.example\r\n\r\n" + b"FOO\r\n" * 1000)
    assert replies[-1] == "421 4.7.0 Too many errors, closing the connection"
    assert len(replies) == 1 + 20  # the greeting, and max_errors replies of which the last is this one
    await goes_on(target)


async def test_endless_ehlo_is_answered_one_by_one_and_ends_with_the_session(target: Any) -> None:
    """No state grows: each EHLO only ends a transaction that is not there (RFC 5321 §4.1.4)."""
    replies = await target.attack(HELLO * 2000 + b"QUIT\r\n")
    assert sum(line.startswith("250 ") for line in replies) == 2000
    [*_, last] = replies
    assert last == "221 2.0.0 Bye"


async def test_a_flood_of_pipelined_commands_waits_its_turn(target: Any) -> None:
    """RFC 2920: what comes ahead is answered in order, and the client that does not read is not read."""
    group = ENVELOPE + b"RSET\r\n"
    replies = await target.attack(HELLO + group * 3000 + b"QUIT\r\n", pause=0)
    assert replies[-4:] == [
        "250 2.1.0 Ok",
        "250 2.1.5 Ok",
        "250 2.0.0 Ok",
        "221 2.0.0 Bye",
    ]
    assert target.messages == []


async def test_a_client_that_reads_no_replies_is_not_read_either(target: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.listener.port, limit=1024)
    writer.write(HELLO + b"HELP\r\n" * 2_000_000)
    await asyncio.sleep(0.3)
    [connection] = target.listener._connections
    assert not connection._flow.transport.is_reading()
    assert connection._flow.transport.get_write_buffer_size() < 16 * 1024 * 1024
    writer.transport.abort()
    del reader
    await goes_on(target)


async def test_recipients_without_end_are_deferred(start: Any) -> None:
    """RFC 5321 §4.5.3.1.10: 452, and those below the limit get their mail."""
    target = await start(max_recipients=10)
    rcpt = b"".join(b"RCPT TO:<b%d@two.example>\r\n" % number for number in range(1000))
    replies = await target.attack(HELLO + b"MAIL FROM:<>\r\n" + rcpt, b"BDAT 4 LAST\r\nhi\r\nQUIT\r\n")
    assert sum(line.startswith("452 4.5.3 ") for line in replies) == 990
    [job] = target.jobs()
    assert len(job.recipients) == 10


@pytest.mark.parametrize(
    ("bomb", "reply"),
    [
        (b"".join(b"X-%d: y\r\n" % number for number in range(10_000)), "554 5.6.0 "),
        (b"X: " + b"y" * 300_000 + b"\r\n", "552 5.3.4 "),
        (b"X: y\r\n" + b" z\r\n" * 100_000, "552 5.3.4 "),
    ],
    ids=["many fields", "a long field", "a field folded without end"],
)
async def test_a_header_bomb_is_refused_as_soon_as_it_is_one(target: Any, bomb: bytes, reply: str) -> None:
    replies = await target.attack(HELLO + ENVELOPE + b"DATA\r\n", bomb + b"\r\nhi\r\n.\r\nQUIT\r\n")
    assert replies[-2].startswith(reply)
    assert target.messages == []
    await goes_on(target)


@pytest.mark.parametrize("spelling", [b"Received: x", b"received:x", b"RECEIVED: x\r\n\ty"])
@pytest.mark.parametrize("by_chunks", [False, True])
async def test_a_message_with_a_thousand_hops_goes_in_circles(
    target: Any, spelling: bytes, by_chunks: bool
) -> None:
    """RFC 5321 §6.3; and it is the fields of the header section that count, not words in the body."""
    looping = (spelling + b"\r\n") * 1000 + b"\r\nhi\r\n"
    begin = b"BDAT %d LAST\r\n" % len(looping) if by_chunks else b"DATA\r\n"
    end = b"QUIT\r\n" if by_chunks else b".\r\nQUIT\r\n"
    replies = await target.attack(HELLO + ENVELOPE + begin, looping + end)
    assert replies[-2].startswith("554 5.4.6 ")
    assert target.messages == []
    fine = b"Received: x\r\n" * 50 + b"\r\n" + b"Received: x\r\n" * 1000
    await target.attack(HELLO + ENVELOPE + b"DATA\r\n", fine + b".\r\nQUIT\r\n")
    assert target.messages == [fine]


async def test_a_message_without_end_is_cut_off(start: Any) -> None:
    target = await start(max_size=100_000)
    replies = await target.attack(HELLO + ENVELOPE + b"DATA\r\n", *[b"x" * 65_534 + b"\r\n"] * 20, pause=0)
    assert replies[-1].startswith("421 4.7.0 Message far above the size limit")
    assert target.messages == []


async def test_chunks_without_end_are_cut_off(start: Any) -> None:
    target = await start(max_size=100_000)
    chunk = b"BDAT 65536\r\n" + b"x" * 65_536
    replies = await target.attack(HELLO + ENVELOPE, *[chunk] * 20, pause=0)
    assert replies[-1].startswith("421 4.7.0 Message far above the size limit")
    assert target.messages == []


async def test_empty_chunks_make_a_message_no_larger(target: Any) -> None:
    replies = await target.attack(HELLO + ENVELOPE + b"BDAT 0\r\n" * 1000 + b"BDAT 4 LAST\r\nhi\r\nQUIT\r\n")
    assert sum("0 octets taken" in line for line in replies) == 1000
    assert target.messages == [b"hi\r\n"]


@pytest.mark.parametrize(
    "at", [b"DATA\r\nhalf a mess", b"BDAT 100\r\nhalf", b"BDAT 4\r\nhalf", b"BDAT 4 LAST\r\nha"]
)
async def test_a_client_that_leaves_in_the_middle_has_sent_nothing(target: Any, at: bytes) -> None:
    replies = await target.attack(HELLO + ENVELOPE + at)
    assert not any("queued" in line for line in replies)
    assert target.messages == []
    assert target.jobs() == []
    await goes_on(target)


async def test_a_slow_client_holds_its_own_session_only(start: Any) -> None:
    """RFC 5321 §4.5.3.2.7: the time is for a whole command, a trickle of octets does not stretch it."""
    target = await start(timeouts=Timeouts(command=0.3))
    slow = asyncio.create_task(target.attack(*[b"N"] * 20, pause=0.03))
    await goes_on(target)
    assert (await slow)[-1] == "421 4.4.2 Timeout, closing the connection"


@pytest.mark.parametrize("phase", [b"EHLO evil.ex", b"DATA", b"BDAT 1000000 LAST"])
async def test_a_trickle_is_no_sign_of_life(start: Any, phase: bytes) -> None:
    """One octet now and then, each in time for a timeout per read: a command has its time as a whole
    (RFC 5321 §4.5.3.2.7), and content has to come at `min_data_rate` in the long run."""
    target = await start(min_data_rate=500, timeouts=Timeouts(command=0.4, block=0.4))
    in_content = phase != b"EHLO evil.ex"
    lines = HELLO + ENVELOPE + phase + b"\r\n" if in_content else phase
    replies = await target.attack(lines, *[b"x"] * 100, pause=0.02)
    assert replies[-1] == "421 4.4.2 Timeout, closing the connection"
    assert target.messages == []
    await goes_on(target)


async def test_two_thousand_idle_connections_leave_room_for_honest_ones(start: Any) -> None:
    """They cost memory and nothing else; benchmarks/idle_sessions.py tells how much."""
    target = await start(max_connections=2010, max_connections_per_client=2010)
    idle = [await asyncio.open_connection("127.0.0.1", target.listener.port) for _ in range(2000)]
    for reader, writer in idle:
        writer.write(HELLO)
        await reader.readuntil(b"250 DSN\r\n")
    assert target.listener.sessions == 2000
    await goes_on(target)
    for _, writer in idle:
        writer.transport.abort()


async def test_one_client_cannot_take_all_connections(start: Any) -> None:
    target = await start(max_connections=50, max_connections_per_client=10)
    greedy = [await asyncio.open_connection("127.0.0.1", target.listener.port) for _ in range(10)]
    for reader, _ in greedy:
        await reader.readline()
    assert await target.attack() == ["421 4.7.0 Too many connections, try again later"]
    other = await asyncio.open_connection("127.0.0.1", target.listener.port, local_addr=("127.0.0.2", 0))
    assert (await other[0].readline()).startswith(b"220 ")
    for _, writer in (*greedy, other):
        writer.transport.abort()
