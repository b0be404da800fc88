"""Every state of a mail transaction meets every fault, in every way to send, over real sockets.

For each: the right outcome for both recipients, nothing lost, nothing sent twice; what is ambiguous says so.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest
import uvloop

from empath.domain.outcome import Sent
from empath.ports import TransactionResult
from empath.testing.certificates import server_context
from empath.testing.smtp_sink import (
    DEAF,
    DROP,
    RESET,
    STALL,
    TAKE_AND_DROP,
    TAKE_AND_STALL,
    Act,
    Script,
    SmtpSink,
    Step,
)
from tests.unit.net.sending import ANN, BOB, dialer, endpoint, send, shorts, transaction

WAYS: dict[str, tuple[str, ...]] = {
    "one by one": (),
    "pipelining": ("PIPELINING",),
    "chunking": ("CHUNKING",),
    "one flight": ("PIPELINING", "CHUNKING"),
}
LARGE = [b"x" * 78 + b"\r\n"] * 200_000

FAULTS: dict[str, Step] = {
    "refuse": "550 5.7.1 No",
    "defer": "450 4.2.1 Later",
    "hang up": Act("421 4.3.2 Closing", then="close"),
    "drop": DROP,
    "reset": RESET,
    "stall": STALL,
    "garbage": b"\x00\xff\xfe what?\r\n",
    "endless line": b"2" * 100_000,
    "endless reply": b"250-x\r\n" * 10_000,
    "odd code": "199 What",
    "out of place": "399 What",
    "not known": "500 5.5.1 What",
}
SENT = "sent 250"
REFUSED, LATER = "failed 550 next_hop_reply", "deferred 450 next_hop_reply"
CLOSING, UNUSABLE = "deferred 421 next_hop_reply", "deferred 451 next_hop_reply"
LOST, LATE, NONSENSE = (
    "deferred 451 connection_lost",
    "deferred 451 timeout",
    "deferred 451 protocol_error",
)
OUTCOMES = {
    "refuse": REFUSED,
    "defer": LATER,
    "hang up": CLOSING,
    "drop": LOST,
    "reset": LOST,
    "stall": LATE,
    "garbage": NONSENSE,
    "endless line": NONSENSE,
    "endless reply": NONSENSE,
    "odd code": UNUSABLE,
    "out of place": NONSENSE,
    "not known": "failed 500 next_hop_reply",
}
SILENT = {"drop", "reset", "stall", "garbage", "endless line", "endless reply"}
"""After these nobody knows what became of what was sent before."""

WITH_REPLY = {"refuse", "defer", "odd code", "out of place", "not known"}
"""A reply of one recipient's own; the session goes on."""


def check_conserved(sink: SmtpSink, result: TransactionResult) -> None:
    """Who was sent the message has it, once; who was not has it not, unless that is said to be ambiguous."""
    took = [recipient for message in sink.accepted for recipient in message.recipients]
    sent = [recipient for recipient, outcome in result.outcomes.items() if isinstance(outcome, Sent)]
    assert set(result.outcomes) == {ANN, BOB}
    assert len(took) == len(set(took))
    assert set(sent) <= set(took)
    assert result.ambiguous or set(sent) == set(took)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
async def test_what_happens_to_mail_happens_to_everybody(way: str, fault: str) -> None:
    async with SmtpSink({"MAIL": FAULTS[fault]}, extensions=WAYS[way]) as sink:
        result = await send(sink)
    assert shorts(result) == {ANN: OUTCOMES[fault], BOB: OUTCOMES[fault]}
    # With the content out already, nobody can say that it was not taken.
    assert result.ambiguous is (way == "one flight" and fault in {*SILENT, "out of place"})
    assert result.ambiguous or not sink.messages
    check_conserved(sink, result)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_reply_to_rcpt_is_one_recipients_and_a_broken_session_everybodys(
    way: str, fault: str
) -> None:
    async with SmtpSink({f"RCPT {BOB}": FAULTS[fault]}, extensions=WAYS[way]) as sink:
        result = await send(sink)
    ann = SENT if fault in WITH_REPLY else OUTCOMES[fault]
    assert shorts(result) == {ANN: ann, BOB: OUTCOMES[fault]}
    assert result.ambiguous is (way == "one flight" and fault in SILENT)
    check_conserved(sink, result)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["one by one", "pipelining"])
async def test_what_happens_to_data_happens_to_everybody(way: str, fault: str) -> None:
    async with SmtpSink({"DATA": FAULTS[fault]}, extensions=WAYS[way]) as sink:
        if fault == "out of place":  # the sink would read on after a 3xx
            sink.script["DATA"] = Act("250 What", then="stall")
        result = await send(sink)
    assert shorts(result) == {ANN: OUTCOMES[fault], BOB: OUTCOMES[fault]}
    assert not result.ambiguous
    assert not sink.messages
    check_conserved(sink, result)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
async def test_after_all_of_the_content_a_missing_reply_is_ambiguous(way: str, fault: str) -> None:
    async with SmtpSink({"message": FAULTS[fault]}, extensions=WAYS[way]) as sink:
        result = await send(sink)
    expected = "deferred 399 next_hop_reply" if fault == "out of place" else OUTCOMES[fault]
    assert shorts(result) == {ANN: expected, BOB: expected}
    assert result.ambiguous is (fault in {*SILENT, "out of place"})
    # Only where BDAT itself may not be known is the message offered again, by DATA.
    assert len(sink.messages) == (2 if fault == "not known" and "CHUNKING" in WAYS[way] else 1)
    check_conserved(sink, result)


@pytest.mark.parametrize("act", [TAKE_AND_DROP, TAKE_AND_STALL, Act(then="abort", takes=True)])
@pytest.mark.parametrize("way", WAYS)
async def test_a_message_that_was_taken_without_a_word_is_ambiguous_and_not_sent_again(
    way: str, act: Act
) -> None:
    async with SmtpSink({"message": [act]}, extensions=WAYS[way]) as sink:
        result = await send(sink)
    assert result.ambiguous
    assert len(sink.accepted) == 1
    check_conserved(sink, result)


@pytest.mark.parametrize(
    ("act", "outcomes"),
    [
        (DROP, {LOST}),
        (RESET, {LOST}),
        (DEAF, {LATE}),
        (Act("552 5.3.4 Too big", then="deaf"), {"failed 552 next_hop_reply", LATE}),
        # The reply may be lost with the connection: a reset discards what was not read.
        (Act("552 5.3.4 Too big", then="close"), {"failed 552 next_hop_reply", LOST}),
        (Act("421 4.3.2 Closing", then="deaf"), {CLOSING}),
        (Act(b"\x00\r\n", then="deaf"), {NONSENSE}),
    ],
)
@pytest.mark.parametrize("way", WAYS)
async def test_trouble_amid_the_content_is_never_ambiguous_nor_a_message(
    way: str, act: Act, outcomes: set[str]
) -> None:
    async with SmtpSink({"content": act}, extensions=WAYS[way]) as sink:
        result = await send(sink, transaction(LARGE))
    assert set(shorts(result).values()) <= outcomes
    assert not result.ambiguous
    assert not sink.messages
    check_conserved(sink, result)


@pytest.mark.parametrize("reply", ["550 5.7.1 No", "450 4.2.1 Later", "552 5.3.4 Too big"])
async def test_a_refused_chunk_ends_the_message_and_not_the_session(reply: str) -> None:
    async with SmtpSink({"BDAT": ["250 2.0.0 first", reply]}, extensions=WAYS["one flight"]) as sink:
        channel = await dialer().connect(endpoint(sink), deadline=20)
        result = await channel.transact(transaction(LARGE))
        assert channel.is_usable
        again = await channel.transact(transaction())
        await channel.close()
    assert {outcome.reply.code for outcome in result.outcomes.values()} == {int(reply[:3])}
    assert not result.ambiguous
    assert set(shorts(again).values()) == {SENT}
    assert sink.connections == 1
    assert len(sink.messages) == 1


SCRIPTS: dict[str, Script] = {
    "all is well": {},
    "a recipient is refused": {f"RCPT {BOB}": b"550-5.1.1 Unknown\r\n550 5.1.1 here\r\n"},
    "everybody is refused": {"RCPT": "550 5.1.1 Unknown\nhere"},
    "the message is refused": {"message": "554 5.6.0 Spam"},
    "421 for a recipient": {f"RCPT {BOB}": Act("421 4.3.2 Closing", then="close")},
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", WAYS)
async def test_replies_split_at_every_octet_are_the_same_replies(way: str, script: str) -> None:
    ends = []
    for splits in (False, True):
        async with SmtpSink(SCRIPTS[script], extensions=WAYS[way], splits=splits) as sink:
            result = await send(sink)
        check_conserved(sink, result)
        ends.append((result, [message.content for message in sink.messages]))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "BDAT", "message"])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_one_flight_through_tls_meets_the_same_faults(stage: str, loop: object) -> None:
    async def scene() -> None:
        for fault, expected in (("550 5.7.1 No", REFUSED), (RESET, LOST)):
            async with SmtpSink(
                {stage: [fault]}, extensions=WAYS["one flight"], tls=server_context()
            ) as sink:
                result = await send(sink)
                assert sink.sessions[0].tls
            assert shorts(result)[ANN] == expected
            assert result.ambiguous is (fault is RESET)
            check_conserved(sink, result)

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(scene())


async def test_all_ways_and_contents_arrive_octet_for_octet() -> None:
    contents = [
        b"",
        b".\r\n",
        b"Subject: x\r\n\r\n.\r\n..\r\nQUIT\r\n",
        b"y" * 65_534 + b"\r\n",
        b"".join(LARGE[:5000]),
    ]
    for way, content in itertools.product(WAYS, contents):
        async with SmtpSink(extensions=WAYS[way]) as sink:
            result = await send(sink, transaction(content))
        check_conserved(sink, result)
        assert [message.content for message in sink.accepted] == [content], way
