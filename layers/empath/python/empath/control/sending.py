"""Handing a message to a relay over SMTP, with every recipient's own reply kept."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, make_msgid

from empath.control.errors import BadUsage, ControlError
from empath.domain.address import Mailbox, parse_mailbox
from empath.domain.errors import AddressSyntaxError

DEFAULT_SERVER = "127.0.0.1:2525"
COMMAND_TIMEOUT = 60.0
"""Seconds for the connection and each reply but the last."""
FINAL_TIMEOUT = 600.0
"""Seconds for the reply to the content (RFC 5321 §4.5.3.2.6)."""

_BARE_LF = re.compile(rb"(?<!\r)\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's reply: code and text, lines joined with LF."""

    code: int
    text: str

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 300

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction."""

    server: str
    recipients: Sequence[tuple[str, Answer]]
    """Each recipient with the reply to its RCPT, in the order given."""
    final: Answer
    """The reply to the content; to the command that ended the transaction, when it came to none."""
    size: int
    """Octets of the content."""

    @property
    def is_complete(self) -> bool:
        """Whether everybody was accepted, and then the content."""
        return self.final.is_positive and all(answer.is_positive for _, answer in self.recipients)


def read_sender(text: str) -> Mailbox | None:
    """A reverse-path: `<>` or nothing is the null one. Raises BadUsage."""
    return None if text.strip() in ("", "<>") else read_address("--from", text)


def read_address(option: str, text: str) -> Mailbox:
    """An address, in brackets or not. Raises BadUsage that names the option."""
    address = text.strip()
    if address.startswith("<") and address.endswith(">"):
        address = address[1:-1]
    try:
        return parse_mailbox(address)
    except AddressSyntaxError as error:
        raise BadUsage(f"{option} {text!r} is no mail address: {error}") from None


def read_server(text: str) -> tuple[str, int]:
    """`host:port`, `[IPv6]:port`, or a host alone (port 25). Raises BadUsage."""
    host, port = text.strip(), "25"
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if not host or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise BadUsage(f"--server {text!r} should be host:port, such as {DEFAULT_SERVER}")
    return host, int(port)


def small_message(sender: Mailbox | None, recipients: Sequence[Mailbox], subject: str, text: str) -> bytes:
    """A text message with all header fields that a mail needs. Raises BadUsage for impossible words."""
    for option, words in (("--subject", subject), ("--text", text)):
        try:
            words.encode()
        except UnicodeEncodeError:
            raise BadUsage(f"{option} is not valid UTF-8") from None
    message = EmailMessage()
    domain = sender.domain if sender and sender.domain.isascii() else "empathctl.invalid"
    try:
        message["From"] = str(sender) if sender else f"MAILER-DAEMON@{domain}"
        message["To"] = ", ".join(str(recipient) for recipient in recipients)
        message["Subject"] = subject
    except ValueError as error:
        raise BadUsage(f"--subject cannot be used: {error}") from None
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=domain.strip("[]"))
    message.set_content(text)
    addresses = (*recipients, *([sender] if sender else []))
    policy = SMTP if all(address.is_ascii for address in addresses) else SMTPUTF8
    return message.as_bytes(policy=policy)


def transport_form(content: bytes) -> tuple[bytes, str | None]:
    """Content as SMTP carries it, and a sentence on what had to change (None: not an octet)."""
    bare = len(_BARE_LF.findall(content))
    changed = _BARE_LF.sub(b"\r\n", content) if bare else content
    notes = [f"{bare} line ends were LF and became CRLF"] if bare else []
    if changed and not changed.endswith(b"\r\n"):
        changed += b"\r\n"
        notes.append("the last line got its CRLF")
    return changed, "; ".join(notes) or None


def send(server: str, sender: Mailbox | None, recipients: Sequence[Mailbox], content: bytes) -> Receipt:
    """One transaction with `server`. Raises ControlError when no answer can be had."""
    host, port = read_server(server)
    try:
        with smtplib.SMTP(host, port, timeout=COMMAND_TIMEOUT) as session:
            session.ehlo_or_helo_if_needed()
            return _transact(session, server, sender, recipients, content)
    except smtplib.SMTPServerDisconnected as error:
        raise ControlError(f"{server} broke the connection off: {error}", "see its log") from None
    except smtplib.SMTPResponseException as error:
        answer = _answer(error.smtp_code, error.smtp_error)
        raise ControlError(f"{server} refuses the session: {answer}") from None
    except smtplib.SMTPException as error:
        raise ControlError(f"{server} does not speak SMTP as it should: {error}") from None
    except OSError as error:
        raise ControlError(
            f"no connection to {server}: {error}", "start the relay with `make run`, or name it with --server"
        ) from None


def _transact(
    session: smtplib.SMTP,
    server: str,
    sender: Mailbox | None,
    recipients: Sequence[Mailbox],
    content: bytes,
) -> Receipt:
    options = [f"SIZE={len(content)}"] if session.has_extn("size") else []
    if not content.isascii() and session.has_extn("8bitmime"):
        options.append("BODY=8BITMIME")
    if not all(address.is_ascii for address in (*recipients, *([sender] if sender else []))):
        if not session.has_extn("smtputf8"):
            raise ControlError(f"{server} takes no international addresses (it does not offer SMTPUTF8)")
        session.command_encoding = "utf-8"
        options.append("SMTPUTF8")
    begun = _answer(*session.mail(str(sender or ""), options))
    if not begun.is_positive:
        return Receipt(server, [], begun, len(content))
    answers = [(str(recipient), _answer(*session.rcpt(str(recipient)))) for recipient in recipients]
    if not any(answer.is_positive for _, answer in answers):
        session.rset()
        return Receipt(server, answers, answers[-1][1], len(content))
    if session.sock is not None:
        session.sock.settimeout(FINAL_TIMEOUT)
    try:
        final = _answer(*session.data(content))
    except smtplib.SMTPDataError as error:
        final = _answer(error.smtp_code, error.smtp_error)
    return Receipt(server, answers, final, len(content))


def _answer(code: int, text: bytes | str) -> Answer:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return Answer(code, "\n".join(words.splitlines()))
