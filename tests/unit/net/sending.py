"""What the dialer's tests share: a dialer in a hurry, and one message to two recipients."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import AsyncIterator, Sequence

from empath.domain.outcome import Deferred, Failed, Held, RecipientOutcome, Sent
from empath.domain.policy import TlsMode
from empath.net.dialer import SmtpDialer
from empath.net.timeouts import Timeouts
from empath.ports import Dialer, Endpoint, Transaction, TransactionResult
from empath.testing.smtp_sink import SmtpSink

ANN, BOB = "ann@example.test", "bob@example.test"
CONTENT = b"Subject: hello\r\n\r\nHello\r\n"
SHORT = 0.3
HURRIED = Timeouts(**{field.name: SHORT for field in dataclasses.fields(Timeouts)})
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def dialer(timeouts: Timeouts = HURRIED) -> SmtpDialer:
    return SmtpDialer("relay.example.test", timeouts=timeouts)


def endpoint(sink: SmtpSink | int, tls: TlsMode = "opportunistic", host: str = "mx.sink.test") -> Endpoint:
    port = sink if isinstance(sink, int) else sink.port
    return Endpoint(host, ipaddress.ip_address("127.0.0.1"), port, tls, LOOPBACK)


def transaction(
    content: bytes | Sequence[bytes] = CONTENT,
    recipients: Sequence[str] = (ANN, BOB),
    *,
    reverse_path: str = "sender@example.test",
    eight_bit: bool = False,
    smtputf8: bool = False,
) -> Transaction:
    chunks = [content] if isinstance(content, bytes) else list(content)

    async def read() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return Transaction(
        reverse_path, recipients, read, sum(map(len, chunks)), eight_bit=eight_bit, smtputf8=smtputf8
    )


async def send(
    to: SmtpSink | Endpoint,
    mail: Transaction | None = None,
    *,
    by: Dialer | None = None,
    tls: TlsMode = "opportunistic",
    deadline: float = 20,
    timeouts: Timeouts = HURRIED,
) -> TransactionResult:
    """One message on a connection of its own, or on one of `by`, which is a pool, say."""
    target = endpoint(to, tls) if isinstance(to, SmtpSink) else to
    channel = await (by or dialer(timeouts)).connect(target, deadline=deadline)
    try:
        return await channel.transact(mail or transaction())
    finally:
        await channel.close()


def short(outcome: RecipientOutcome) -> str:
    """`sent 250`, `failed 550 next_hop_reply`, `deferred 451 timeout`."""
    match outcome:
        case Sent(reply):
            return f"sent {reply.code}"
        case Deferred(reply, reason):
            return f"deferred {reply.code} {reason}"
        case Failed(reply, reason):
            return f"failed {reply.code} {reason}"
        case Held(reply, reason):
            return f"held {reply.code} {reason}"


def shorts(result: TransactionResult) -> dict[str, str]:
    return {recipient: short(outcome) for recipient, outcome in result.outcomes.items()}
