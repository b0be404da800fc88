"""Every stage of a mail transaction meets every fault, over real sockets.

The two recipients' outcomes, in the words of `sending.short`, and whether the attempt is ambiguous.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest
import uvloop

from empath.net.timeouts import DEFAULT_TIMEOUTS
from empath.testing.smtp_sink import DEAF, DROP, RESET, STALL, Act, Script, SmtpSink, Step
from tests.unit.net.sending import ANN, BOB, HURRIED, dialer, endpoint, send, shorts, transaction

FAULTS: dict[str, Step] = {
    "refuse": "550 5.7.1 No",
    "defer": "450 4.2.1 Later",
    "hang up": Act("421 4.3.2 Closing", then="close"),
    "drop": DROP,
    "reset": RESET,
    "stall": STALL,
    "garbage": b"\x00\xff\xfe what?\r\n",
    "endless line": b"2" * 100_000,
    "odd code": "199 What",
    "out of place": "399 What",
}

REFUSED, LATER, CLOSING = (
    "failed 550 next_hop_reply",
    "deferred 450 next_hop_reply",
    "deferred 421 next_hop_reply",
)
LOST, LATE = "deferred 451 connection_lost", "deferred 451 timeout"
NONSENSE, UNUSABLE = "deferred 451 protocol_error", "deferred 451 next_hop_reply"
SENT = "sent 250"

BEFORE_CONTENT = {
    "refuse": REFUSED,
    "defer": LATER,
    "hang up": CLOSING,
    "drop": LOST,
    "reset": LOST,
    "stall": LATE,
    "garbage": NONSENSE,
    "endless line": NONSENSE,
    "odd code": UNUSABLE,
    "out of place": NONSENSE,
}


@pytest.mark.parametrize("stage", ["MAIL", "DATA"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_happens_to_mail_or_data_happens_to_every_recipient(stage: str, fault: str) -> None:
    async with SmtpSink({stage: FAULTS[fault]}) as sink:
        result = await send(sink)
    assert shorts(result) == {ANN: BEFORE_CONTENT[fault], BOB: BEFORE_CONTENT[fault]}
    assert not result.ambiguous
    assert not sink.messages


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_reply_to_rcpt_is_one_recipients_and_a_broken_session_everybodys(fault: str) -> None:
    async with SmtpSink({f"RCPT {BOB}": FAULTS[fault]}) as sink:
        result = await send(sink)
    bobs_own = fault in {"refuse", "defer", "odd code", "out of place"}
    assert shorts(result) == {ANN: SENT if bobs_own else BEFORE_CONTENT[fault], BOB: BEFORE_CONTENT[fault]}
    assert not result.ambiguous
    assert [message.recipients for message in sink.messages] == ([(ANN,)] if bobs_own else [])


@pytest.mark.parametrize(
    ("fault", "outcome", "ambiguous"),
    [
        ("refuse", REFUSED, False),
        ("defer", LATER, False),
        ("hang up", CLOSING, False),
        ("drop", LOST, True),
        ("reset", LOST, True),
        ("stall", LATE, True),
        ("garbage", NONSENSE, True),
        ("endless line", NONSENSE, True),
        ("odd code", UNUSABLE, False),
        ("out of place", "deferred 399 next_hop_reply", True),
    ],
)
async def test_after_the_final_dot_a_missing_reply_is_ambiguous(
    fault: str, outcome: str, ambiguous: bool
) -> None:
    async with SmtpSink({"message": FAULTS[fault]}) as sink:
        result = await send(sink)
    assert shorts(result) == {ANN: outcome, BOB: outcome}
    assert result.ambiguous is ambiguous


@pytest.mark.parametrize(
    ("act", "outcomes"),
    [
        (DROP, {LOST}),
        (RESET, {LOST}),
        (DEAF, {LATE}),
        (Act("552 5.3.4 Too big", then="deaf"), {"failed 552 next_hop_reply"}),
        # The reply may be lost with the connection: a reset discards what was not read.
        (Act("552 5.3.4 Too big", then="close"), {"failed 552 next_hop_reply", LOST}),
        (Act("421 4.3.2 Closing", then="deaf"), {CLOSING}),
        (Act("250 2.0.0 Already fine", then="deaf"), {NONSENSE}),
        (Act(b"\x00\r\n", then="deaf"), {NONSENSE}),
    ],
)
async def test_trouble_amid_the_content_is_never_ambiguous_nor_a_message(
    act: Act, outcomes: set[str]
) -> None:
    large = transaction([b"x" * 78 + b"\r\n"] * 200_000)
    async with SmtpSink({"content": act}) as sink:
        result = await send(sink, large)
    assert set(shorts(result)) == {ANN, BOB}
    assert set(shorts(result).values()) <= outcomes
    assert not result.ambiguous
    assert not sink.messages


@pytest.mark.parametrize("offered", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")])
async def test_all_recipients_refused_ends_without_a_message_and_rset_goes_before_the_next_mail(
    offered: tuple[str, ...],
) -> None:
    unknown = "550 5.1.1 Unknown"
    async with SmtpSink({"RCPT": [unknown, unknown]}, extensions=offered) as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        refused = await channel.transact(transaction())
        assert not sink.messages
        sent = await channel.transact(transaction())
        await channel.close()
    assert shorts(refused) == {ANN: REFUSED, BOB: REFUSED}
    assert shorts(sent) == {ANN: SENT, BOB: SENT}
    commands = sink.sessions[0].commands
    assert commands.count("RSET") == 1
    assert commands[commands.index("RSET") + 1].startswith("MAIL")


async def test_who_has_an_outcome_does_not_wait_long_for_what_is_left_of_the_session() -> None:
    patient = dataclasses.replace(HURRIED, final=60)
    script: Script = {"RCPT": "550 5.1.1 Unknown", "DATA": Act("354 Go on", then="stall")}
    async with SmtpSink(script) as sink, asyncio.timeout(5):
        result = await send(sink, timeouts=patient, deadline=90)
    assert shorts(result) == {ANN: REFUSED, BOB: REFUSED}
    assert not result.ambiguous


async def test_each_recipient_keeps_the_words_of_its_own_reply() -> None:
    script = {f"RCPT {ANN}": "550 5.1.1 First line\n5.1.1 Second line", f"RCPT {BOB}": "450 4.2.2 Full"}
    async with SmtpSink(script) as sink:
        result = await send(sink)
    assert str(result.outcomes[ANN].reply) == "550 5.1.1 First line Second line"
    assert str(result.outcomes[BOB].reply) == "450 4.2.2 Full"


async def test_a_bare_552_to_a_later_recipient_may_mean_too_many_so_it_is_asked_about_alone() -> None:
    async with SmtpSink({f"RCPT {BOB}": ["552 Too many recipients"]}) as sink:
        result = await send(sink)
    assert shorts(result) == {ANN: SENT, BOB: SENT}
    async with SmtpSink({f"RCPT {BOB}": "552 Mailbox full"}) as sink:
        result = await send(sink)
    assert shorts(result) == {ANN: SENT, BOB: "failed 552 next_hop_reply"}


@pytest.mark.parametrize("reply", ["552 5.2.2 Mailbox full", "552 Mailbox full"])
async def test_another_552_is_permanent(reply: str) -> None:
    async with SmtpSink({"RCPT": reply}) as sink:
        result = await send(sink)
    assert set(shorts(result).values()) == {"failed 552 next_hop_reply"}


async def test_a_reply_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    script: Script = {f"RCPT {ANN}": b"250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n", f"RCPT {BOB}": "550 5.1.1 Unknown"}
    async with SmtpSink(script) as sink:
        result = await send(sink)
    assert shorts(result) == {ANN: NONSENSE, BOB: NONSENSE}
    assert not sink.messages


async def test_an_answer_to_the_content_given_together_with_354_is_not_believed() -> None:
    async with SmtpSink({"DATA": b"354 Go on\r\n250 2.0.0 Ok\r\n"}) as sink:
        result = await send(sink)
    assert shorts(result) == {ANN: NONSENSE, BOB: NONSENSE}
    assert not result.ambiguous


async def test_a_strangers_words_are_bounded_and_without_control_characters() -> None:
    async with SmtpSink({"RCPT": b"550 \x1b[31mred\x00 " + b"\xff" * 3000 + b"\r\n"}) as sink:
        result = await send(sink)
    text = result.outcomes[ANN].reply.text
    assert "\x1b" not in text
    assert "\x00" not in text
    assert len(text.encode()) <= 1024


async def test_a_second_transaction_on_a_lost_session_defers() -> None:
    async with SmtpSink({"message": DROP}) as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        await channel.transact(transaction())
        again = await channel.transact(transaction())
        await channel.close()
    assert set(shorts(again).values()) == {LOST}
    assert not again.ambiguous


async def test_the_final_dot_is_not_sent_without_time_to_hear_the_answer() -> None:
    patient = dataclasses.replace(HURRIED, data=5)
    async with SmtpSink({"DATA": Act("354 Go on", delay=0.95)}) as sink:
        result = await send(sink, deadline=1.0, timeouts=patient)
    assert shorts(result) == {ANN: LATE, BOB: LATE}
    assert not result.ambiguous
    assert not sink.messages


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "message"])
async def test_nothing_takes_longer_than_the_deadline(stage: str) -> None:
    async with SmtpSink({stage: STALL}) as sink, asyncio.timeout(5):
        began = time.monotonic()
        result = await send(sink, deadline=0.5, timeouts=DEFAULT_TIMEOUTS)
        assert time.monotonic() - began < 2
    assert set(shorts(result).values()) == {LATE}


def test_a_connection_is_dropped_at_once_under_uvloop_too() -> None:
    async def scene() -> None:
        async with SmtpSink({"content": DEAF}) as sink, asyncio.timeout(5):
            result = await send(sink, transaction([b"x" * 78 + b"\r\n"] * 200_000))
        assert shorts(result) == {ANN: LATE, BOB: LATE}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
