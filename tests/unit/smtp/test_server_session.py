"""The session as a whole: any octets end in events and replies, however they are cut into pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from empath.domain.reply import Reply
from empath.smtp import events, replies
from empath.smtp.events import Event
from empath.smtp.extensions import STANDARD, STARTTLS, Extension, Offer
from empath.smtp.limits import Limits
from empath.smtp.server import ServerSession
from empath.smtp.state import State

OFFERED = (*STANDARD, STARTTLS)
LIMITS = Limits(max_size=200, max_recipients=3, max_command_line=64, max_errors=6)
REFUSED = Reply.of(550, "5.7.1", "Relaying denied")

PIECES = [
    b"EHLO client.example\r\n",
    b"HELO client.example\r\n",
    b"MAIL FROM:<a@one.example>\r\n",
    b"MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n",
    b"MAIL FROM:<a@one.example> SIZE=999\r\n",
    b"RCPT TO:<b@two.example>\r\n",
    b"RCPT TO:<refused@two.example>\r\n",
    b"RCPT TO:<c@two.example>\r\n",
    b"DATA\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 5\r\n",
    b"BDAT 22 LAST\r\n",
    b"BDAT 201\r\n",
    b"BDAT 99999\r\n",
    b"BDAT x\r\n",
    b"STARTTLS\r\n",
    b"STARTTLS now\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"FOO\r\n",
    b"\r\n.\r\n",
    b".\r\n",
    b"..\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\x00\xff",
    b"content of a message ",
    b"x" * 70,
    b"y" * 300,
]
INPUT = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6)), max_size=40).map(b"".join)
TRANSACTION = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@two.example>\r\n"
# A session in the middle of things, so that few examples are wasted on 503.
START = st.sampled_from(
    [b"", b"EHLO x\r\n", TRANSACTION, TRANSACTION + b"DATA\r\n", TRANSACTION + b"BDAT 6\r\nhello\r"]
)


def new_session(limits: Limits = LIMITS, extensions: Iterable[Extension] = OFFERED) -> ServerSession:
    session = ServerSession("mx.example", Offer(tuple(extensions), limits), limits)
    session.greet()
    return session


def decide(session: ServerSession, event: Event) -> None:
    if session.awaiting is None or event is not session.awaiting:
        return
    if isinstance(event, events.RcptTo) and event.recipient.mailbox.local_part == "refused":
        session.refuse(REFUSED)
    else:
        session.accept()


def converse(session: ServerSession, pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    """All events, content joined and that of broken messages left out, and all replies."""
    seen: list[Event] = []
    replies = session.replies()
    for piece in pieces:
        session.receive(piece)
        while (event := session.next_event()) is not None:
            decide(session, event)
            if isinstance(event, events.ContentChunk) and isinstance(seen[-1], events.ContentChunk):
                event = events.ContentChunk(seen.pop().octets + event.octets)  # type: ignore[union-attr]
            if isinstance(event, events.MessageBroken) and isinstance(seen[-1], events.ContentChunk):
                seen.pop()
            seen.append(event)
        replies += session.replies()
    if seen and isinstance(seen[-1], events.ContentChunk):
        seen.pop()  # the message is not over: how much of it is out already depends on the pieces
    return seen, replies


def singly(octets: bytes) -> list[bytes]:
    return [octets[i : i + 1] for i in range(len(octets))]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(START, INPUT, st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_the_pieces_that_input_comes_in_make_no_difference(
    start: bytes, octets: bytes, sizes: list[int]
) -> None:
    octets = start + octets
    whole = converse(new_session(), [octets])
    assert converse(new_session(), singly(octets)) == whole
    pieces: list[bytes] = []
    at = 0
    while at < len(octets):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(octets[at : at + size])
        at += size
    assert converse(new_session(), pieces) == whole


@settings(max_examples=300, deadline=None)
@given(START, st.one_of(INPUT, st.binary(max_size=400)))
def test_any_octets_end_in_events_and_replies(start: bytes, octets: bytes) -> None:
    session = new_session()
    seen, replies = converse(session, [start, octets])
    assert replies.endswith(b"\r\n")
    for line in replies.split(b"\r\n")[:-1]:
        assert line[:3].isdigit()
        assert line.decode("ascii").isprintable()
    ends = [event for event in seen if isinstance(event, events.SessionEnds)]
    assert (session.state is State.CLOSED) is bool(ends)
    assert not ends or seen[-1] is ends[0]


@settings(max_examples=200, deadline=None)
@given(START, INPUT)
def test_content_is_whole_exactly_when_its_end_is_told(start: bytes, octets: bytes) -> None:
    seen, _ = converse(new_session(), [start + octets])
    open_message, content = False, b""
    for event in seen:
        match event:
            case events.MessageBegins():
                open_message, content = True, b""
            case events.ContentChunk():
                assert open_message
                content += event.octets
            case events.MessageBroken():
                assert open_message
                open_message = False
            case events.MessageEnds():
                assert open_message
                assert event.size == len(content) <= LIMITS.max_size
                lines = content.replace(b"\r\n", b"")
                assert b"\n" not in lines
                assert b"\r" not in lines
                open_message = False


def test_input_waits_while_a_decision_is_awaited() -> None:
    session = new_session()
    session.receive(b"EHLO x\r\nMAIL FROM:<a@one.example>\r\nNOOP\r\n")
    assert isinstance(session.next_event(), events.Helo)
    assert session.next_event() is None
    assert session.waiting_octets > 0
    session.accept()
    assert isinstance(session.next_event(), events.MailFrom)
    session.replies()
    session.refuse(Reply.of(450, "4.7.1", "Later"))
    assert session.next_event() is None
    assert session.replies() == b"450 4.7.1 Later\r\n250 2.0.0 Ok\r\n"
    assert session.state is State.GREETED


def test_replies_of_a_pipelined_group_are_one_piece() -> None:
    session = new_session()
    session.receive(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@two.example>\r\nDATA\r\n")
    while (event := session.next_event()) is not None:
        decide(session, event)
    assert session.replies().count(b"\r\n") == 5
    assert session.replies() == b""


@pytest.mark.parametrize("decision", ["accept", "refuse"])
def test_a_decision_that_nobody_waits_for_is_a_fault_of_the_owner(decision: str) -> None:
    session = new_session()
    decide_now: Callable[[], None] = (
        session.accept if decision == "accept" else lambda: session.refuse(REFUSED)
    )
    with pytest.raises(RuntimeError):
        decide_now()


def test_a_refused_data_leaves_the_transaction_and_a_refused_message_ends_it() -> None:
    session = new_session()
    converse(session, [b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@two.example>\r\n"])
    session.receive(b"DATA\r\n")
    assert isinstance(session.next_event(), events.MessageBegins)
    session.refuse(Reply.of(451, "4.3.0", "Later"))
    session.receive(b"DATA\r\n")
    assert isinstance(session.next_event(), events.MessageBegins)
    session.accept()
    session.receive(b".\r\n")
    assert session.next_event() == events.MessageEnds(0)
    session.refuse(Reply.of(554, "5.7.1", "No"))
    assert session.state is State.GREETED


def test_a_421_of_the_owner_ends_the_session_whatever_it_was_about() -> None:
    session = new_session()
    session.receive(b"HELO x\r\nNOOP\r\n")
    session.next_event()
    session.refuse(Reply.of(421, "4.7.0", "Go away"))
    assert session.next_event() == events.SessionEnds(events.EndCause.BY_OWNER)
    session.end(Reply.of(421, "4.3.2", "Again"))
    session.receive(b"NOOP\r\n")
    assert session.next_event() is None
    assert session.replies().endswith(b"421 4.7.0 Go away\r\n")


def test_recipients_are_bounded_by_what_fits_into_a_job() -> None:
    limits = Limits(max_recipients=10_000, max_errors=10)
    session = new_session(limits)
    converse(session, [b"HELO x\r\nMAIL FROM:<>\r\n"])
    name = "r" * 56
    commands = [f"RCPT TO:<{name}{i:04d}@{'d' * 50}.example>\r\n".encode() for i in range(2000)]
    seen, replies = converse(session, commands)
    accepted = [event.recipient for event in seen if isinstance(event, events.RcptTo)]
    assert 900 < len(accepted) < 1000
    assert replies.endswith(b"452 4.5.3 Too many recipients\r\n")
    json_octets = sum(len(recipient.model_dump_json(exclude_none=True)) + 1 for recipient in accepted)
    assert json_octets <= limits.max_recipient_octets
    assert session.state is State.RECIPIENTS  # deferred recipients are no errors of the client


def test_an_extension_brings_its_keyword_and_its_parameters() -> None:
    notify = Extension("DSN", rcpt={"NOTIFY": lambda value, limits: {"notify": (value or "").split(",")}})
    ret = Extension("X", mail={"RET": lambda value, limits: {"ret": value}})
    session = new_session(extensions=(*STANDARD, notify, ret))
    seen, replies = converse(
        session,
        [b"EHLO x\r\nMAIL FROM:<> RET=HDRS\r\nRCPT TO:<b@two.example> NOTIFY=FAILURE,DELAY\r\nDATA\r\n"],
    )
    assert b"250-DSN\r\n" in replies
    begins = seen[-1]
    assert isinstance(begins, events.MessageBegins)
    assert begins.envelope.ret == "HDRS"
    assert begins.envelope.recipients[0].notify == ("FAILURE", "DELAY")


def test_limits_are_told_in_six_digits_at_most() -> None:
    offer = Offer(STANDARD, Limits(max_messages=10_000_000, max_recipients=7))
    assert "LIMITS MAILMAX=999999 RCPTMAX=7" in offer.ehlo_lines(is_secure=False)


def test_starttls_that_is_refused_leaves_the_session_as_it_was() -> None:
    session = new_session()
    converse(session, [b"EHLO x\r\n"])
    session.receive(b"STARTTLS\r\nNOOP\r\n")
    assert session.next_event() == events.StartTls()
    session.refuse(replies.TLS_NOT_AVAILABLE)
    assert session.next_event() is None
    assert session.replies() == (b"454 4.7.0 TLS not available due to a temporary reason\r\n250 2.0.0 Ok\r\n")
    assert (session.is_secure, session.state) == (False, State.GREETED)


def test_between_starttls_and_the_end_of_the_handshake_nothing_counts() -> None:
    session = new_session()
    converse(session, [b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@one.example>\r\n", b"NOOP\r\nQU"])
    assert (session.waiting_octets, session.next_event(), session.replies()) == (0, None, b"")
    session.tls_started()
    seen, said = converse(session, [b"NOOP\r\nEHLO y\r\n"])
    assert seen == [events.Helo("y", esmtp=True)]
    assert said.startswith(b"250 2.0.0 Ok\r\n250-mx.example\r\n")
    assert b"STARTTLS" not in said
