"""AUTH (RFC 4954): exchanges end in a question to the owner or in the reply that the RFC names."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.smtp import events, replies
from empath.smtp.events import Event
from empath.smtp.extensions import AUTH, STANDARD, STARTTLS, Offer
from empath.smtp.limits import Limits
from empath.smtp.server import ServerSession
from empath.smtp.state import State

LIMITS = Limits(max_errors=5)
GOOD = b64encode(b"\0bob\0secret")
BOB, SECRET = b64encode(b"bob"), b64encode(b"secret")


def new_session(*, secure: bool = True, greeting: bytes = b"EHLO x\r\n") -> ServerSession:
    session = ServerSession("mx.example", Offer((*STANDARD, STARTTLS, AUTH), LIMITS), LIMITS)
    if secure:
        converse(session, b"EHLO x\r\nSTARTTLS\r\n")
        session.tls_started()
    converse(session, greeting)
    return session


def converse(session: ServerSession, octets: bytes, size: int | None = None) -> tuple[list[Event], bytes]:
    """Bob's password is "secret"; everything else is accepted."""
    seen: list[Event] = []
    for start in range(0, len(octets), size or max(len(octets), 1)):
        session.receive(octets[start : start + (size or len(octets))])
        while (event := session.next_event()) is not None:
            seen.append(event)
            if event is not session.awaiting:
                continue
            if isinstance(event, events.Authenticate) and (event.user, event.password) != ("bob", "secret"):
                session.refuse(replies.AUTH_FAILED)
            else:
                session.accept()
    return seen, session.replies()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"AUTH PLAIN " + GOOD, []),
        (b"auth plain " + GOOD, []),
        (b"AUTH PLAIN " + b64encode(b"bob\0bob\0secret"), []),
        (b"AUTH PLAIN\r\n" + GOOD, [b"334 "]),
        (b"AUTH LOGIN\r\n" + BOB + b"\r\n" + SECRET, [b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"]),
        (b"AUTH LOGIN " + BOB + b"\r\n" + SECRET, [b"334 UGFzc3dvcmQ6"]),
    ],
)
def test_who_knows_the_password_is_in(said: bytes, heard: list[bytes]) -> None:
    session = new_session()
    _, output = converse(session, said + b"\r\n")
    assert output.split(b"\r\n") == [*heard, b"235 2.7.0 Authentication successful", b""]
    assert session.user == "bob"


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (b"AUTH PLAIN " + b64encode(b"\0bob\0wrong"), replies.AUTH_FAILED),
        (b"AUTH PLAIN " + b64encode(b"alice\0bob\0secret"), replies.AUTH_FAILED),
        (b"AUTH LOGIN " + BOB + b"\r\n" + BOB, replies.AUTH_FAILED),
        (b"AUTH PLAIN =", replies.BAD_CREDENTIALS),
        (b"AUTH PLAIN\r\n", replies.BAD_CREDENTIALS),
        (b"AUTH PLAIN " + b64encode(b"bob"), replies.BAD_CREDENTIALS),
        (b"AUTH PLAIN " + b64encode(b"\0\0secret"), replies.BAD_CREDENTIALS),
        (b"AUTH PLAIN " + b64encode(b"\0bob\0"), replies.BAD_CREDENTIALS),
        (b"AUTH PLAIN " + b64encode(b"\0bob\0secret\0"), replies.BAD_CREDENTIALS),
        (b"AUTH PLAIN " + b64encode(b"\0b\xff\0secret"), replies.BAD_CREDENTIALS),
        (b"AUTH LOGIN =\r\n" + SECRET, replies.BAD_CREDENTIALS),
        (b"AUTH LOGIN " + b64encode(b"b\0b") + b"\r\n" + SECRET, replies.BAD_CREDENTIALS),
        (b"AUTH PLAIN\r\n*", replies.AUTH_CANCELLED),
        (b"AUTH LOGIN\r\n" + BOB + b"\r\n*", replies.AUTH_CANCELLED),
        (b"AUTH PLAIN a", replies.BAD_BASE64),
        (b"AUTH PLAIN " + GOOD.rstrip(b"="), replies.BAD_BASE64),
        (b"AUTH PLAIN\r\n" + GOOD[:8] + b" " + GOOD[8:], replies.BAD_BASE64),
        (b"AUTH PLAIN \xc3\xa4", replies.BAD_BASE64),
        (b"AUTH PLAIN\r\n\xff\x00", replies.BAD_BASE64),
        (b"AUTH PLAIN\r\n" + b"A" * 12_287, replies.AUTH_LINE_TOO_LONG),
        (b"AUTH PLAIN\r\nQQ\n==", replies.BARE_NEWLINE_IN_COMMAND),
        (b"AUTH", replies.BAD_AUTH),
        (b"AUTH CRAM-MD5", replies.UNKNOWN_MECHANISM),
        (b"AUTH XOAUTH2 " + GOOD, replies.UNKNOWN_MECHANISM),
        (b"AUTH \xff", replies.UNKNOWN_MECHANISM),
    ],
)
def test_every_other_exchange_ends_in_its_reply_and_the_session_goes_on(said: bytes, reply: object) -> None:
    session = new_session()
    for _ in range(2):
        _, output = converse(session, said + b"\r\nNOOP\r\n")
        assert output.endswith(replies.encode(reply) + b"250 2.0.0 Ok\r\n")  # type: ignore[arg-type]
    assert session.user is None
    assert converse(session, b"AUTH PLAIN " + GOOD + b"\r\n")[1].startswith(b"235 ")


def test_it_is_offered_and_possible_within_tls_only() -> None:
    clear = new_session(secure=False, greeting=b"")
    _, output = converse(clear, b"EHLO x\r\nAUTH PLAIN " + GOOD + b"\r\n")
    assert b"250-AUTH" not in output
    assert b"250 AUTH" not in output
    assert output.endswith(b"538 5.7.11 Encryption required for this authentication mechanism\r\n")
    assert clear.user is None
    _, output = converse(new_session(greeting=b""), b"EHLO x\r\n")
    assert output.endswith(b"250 AUTH PLAIN LOGIN\r\n")


def test_it_is_not_known_where_it_is_not_offered() -> None:
    session = ServerSession("mx.example", Offer(STANDARD, LIMITS), LIMITS)
    assert converse(session, b"EHLO x\r\nAUTH PLAIN\r\n")[1].endswith(
        b"502 5.5.1 Command not implemented\r\n"
    )


def test_it_wants_ehlo_before_it_and_no_transaction_round_it_and_is_possible_once() -> None:
    session = new_session(greeting=b"")
    good = b"AUTH PLAIN " + GOOD + b"\r\n"
    assert converse(session, good)[1].startswith(b"503 5.5.1 Bad sequence of commands: send EHLO")
    converse(session, b"EHLO x\r\nMAIL FROM:<>\r\n")
    assert converse(session, good)[1].startswith(b"503 5.5.1 Bad sequence of commands: not within")
    converse(session, b"RSET\r\n")
    assert converse(session, good)[1].startswith(b"235 ")
    assert converse(session, good)[1].startswith(b"503 5.5.1 Bad sequence of commands: authenticated")
    assert session.state is State.GREETED


def test_guessing_ends_with_421() -> None:
    _, output = converse(new_session(), (b"AUTH PLAIN " + b64encode(b"\0bob\0guess") + b"\r\n") * 10)
    assert output.count(b"535 5.7.8 ") == LIMITS.max_errors - 1
    assert output.endswith(b"421 4.7.0 Too many errors, closing the connection\r\n")


def test_passwords_are_shown_nowhere() -> None:
    session = new_session()
    seen, output = converse(session, b"AUTH PLAIN " + GOOD + b"\r\nAUTH LOGIN " + SECRET + b"\r\n")
    text = repr(seen) + output.decode()
    assert "bob" in text
    assert "secret" not in text
    assert GOOD.decode() not in text
    assert b"secret" not in repr(vars(session)).encode()


@pytest.mark.parametrize("parameter", [b"AUTH=<>", b"AUTH=bob+40one.example"])
def test_the_mail_parameter_is_read_and_not_believed(parameter: bytes) -> None:
    session = new_session()
    assert converse(session, b"MAIL FROM:<> " + parameter + b"\r\n")[1] == b"250 2.1.0 Ok\r\n"
    assert session.user is None


@pytest.mark.parametrize("parameter", [b"AUTH", b"AUTH=", b"AUTH=a+b", b"AUTH=a+4a"])
def test_a_mail_parameter_that_is_no_xtext_is_refused(parameter: bytes) -> None:
    assert converse(new_session(), b"MAIL FROM:<> " + parameter + b"\r\n")[1].startswith(b"501 5.5.4 ")


PIECES = st.sampled_from(
    [
        b"AUTH PLAIN ",
        b"AUTH PLAIN\r\n",
        b"AUTH LOGIN\r\n",
        GOOD,
        BOB,
        SECRET,
        b"*",
        b"=",
        b"\r\n",
        b"NOOP\r\n",
    ]
)


@given(st.lists(PIECES, max_size=25).map(b"".join), st.integers(1, 9))
def test_the_pieces_that_input_comes_in_make_no_difference(octets: bytes, size: int) -> None:
    whole, pieces = new_session(), new_session()
    assert converse(whole, octets) == converse(pieces, octets, size)
    assert (whole.user, whole.state) == (pieces.user, pieces.state)
