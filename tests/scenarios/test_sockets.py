"""Real mail through real sockets at both ends: smtplib in, a scripted next hop out, memory between."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable

import pytest

from empath.domain.delivery_state import State
from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings
from empath.net.dialer import SmtpDialer
from empath.net.resolver import DnsResolver
from empath.testing.dns_server import serving
from empath.testing.faults import AFTER, BEFORE, When
from empath.testing.relay import HOSTNAME, MemoryRelay
from empath.testing.smtp_sink import DROP, Script, SmtpSink
from empath.testing.zones import Node

SENDER = "ann@sender.test"


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    script: Script = {
        "RCPT @reject.test": "550 5.1.1 No such user here",
        "RCPT bob@defer.test": ["451 4.7.1 Greylisted"],
    }
    async with SmtpSink(script) as sink:
        yield sink


@pytest.fixture
async def relay(sink: SmtpSink) -> AsyncIterator[MemoryRelay]:
    async with serving({"*": Node(a=["127.0.0.1"]), "nosuch.test": Node(fault="nxdomain")}) as dns:
        relay = MemoryRelay(dialer=SmtpDialer(HOSTNAME), resolver=DnsResolver([dns.nameserver]))
        relay.control.items["*"] = {"allow_addresses": ["127.0.0.0/8"], "port": sink.port}
        yield relay


@pytest.fixture
async def listener(relay: MemoryRelay) -> AsyncIterator[Listener]:
    settings = IngressSettings(port=0, hostname=HOSTNAME)
    listener = await serve(settings, relay.acceptance, relay.clock, relay.ids, relay.metrics)
    yield listener
    await listener.close(grace=0)


async def with_client(listener: Listener, talk: Callable[[smtplib.SMTP], object]) -> object:
    def session() -> object:
        with smtplib.SMTP("127.0.0.1", listener.port, timeout=10) as client:
            return talk(client)

    return await asyncio.to_thread(session)


CONTENTS = {
    "plain text": b"Subject: hello\r\n\r\nHello.\r\n",
    "8-bit UTF-8": "Subject: h\u00e9llo\r\n\r\nGr\u00fc\u00dfe \u2709\r\n".encode(),
    "lines of dots": b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.hidden\r\n\r\n.\r\n",
    "a line of 998 octets": b"Subject: long\r\n\r\n" + b"x" * 998 + b"\r\n",
    "an empty body": b"Subject: nothing\r\n\r\n",
    "no header at all": b"\r\njust text\r\n",
    "two megabytes": b"Subject: big\r\n\r\n"
    + b"0123456789abcdef" * 4
    + b"\r\n"
    + (b"y" * 76 + b"\r\n") * 27_000,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
async def test_content_arrives_byte_for_byte_below_one_trace_header(
    relay: MemoryRelay, listener: Listener, sink: SmtpSink, content: bytes
) -> None:
    await with_client(
        listener, lambda client: client.sendmail(SENDER, ["bob@good.test"], content, ["BODY=8BITMIME"])
    )
    await relay.run()
    (received,) = sink.accepted
    trace, separator, rest = received.content.partition(b"+0000\r\n")
    assert trace.startswith(b"Received: from ")
    assert separator
    assert rest == content


async def test_each_recipient_of_one_transaction_gets_its_own_outcome(
    relay: MemoryRelay, listener: Listener, sink: SmtpSink
) -> None:
    recipients = ["bob@good.test", "bob@reject.test", "bob@defer.test", "bob@nosuch.test"]
    await with_client(listener, lambda client: client.sendmail(SENDER, recipients, CONTENTS["plain text"]))
    (spool_key,) = relay.spool.objects
    message_id = spool_key.removeprefix("messages/")
    await relay.run()
    assert relay.states(message_id) == {
        "bob@good.test": State.SENT,
        "bob@reject.test": State.FAILED,
        "bob@defer.test": State.SENT,
        "bob@nosuch.test": State.FAILED,
    }
    sent = sorted(address for message in sink.accepted for address in message.recipients)
    assert sent == [SENDER, SENDER, "bob@defer.test", "bob@good.test"]
    assert relay.spool.objects == {}


async def test_fifty_recipients_in_ten_domains_make_ten_transactions(
    relay: MemoryRelay, listener: Listener, sink: SmtpSink
) -> None:
    everyone = [f"user{number}@d{number % 10}.test" for number in range(50)]
    await with_client(listener, lambda client: client.sendmail(SENDER, everyone, CONTENTS["plain text"]))
    await relay.run()
    assert sorted(len(message.recipients) for message in sink.accepted) == [5] * 10
    assert sorted(address for message in sink.accepted for address in message.recipients) == sorted(everyone)


@pytest.mark.parametrize("call", ["spool.put", "queue.send"])
@pytest.mark.parametrize("when", [BEFORE, AFTER])
async def test_without_spool_or_queue_the_client_hears_451_and_may_go_on(
    relay: MemoryRelay, listener: Listener, call: str, when: When
) -> None:
    relay.faults.fail(call, when=when)

    def talk(client: smtplib.SMTP) -> None:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(SENDER, ["bob@good.test"], CONTENTS["plain text"])
        assert refused.value.smtp_code == 451
        assert str(refused.value.smtp_error).startswith("b'4.3.0 ")
        assert client.sendmail(SENDER, ["eve@good.test"], CONTENTS["plain text"]) == {}

    await with_client(listener, talk)


async def test_a_connection_lost_after_the_final_dot_is_tried_again_and_marked_ambiguous(
    relay: MemoryRelay, listener: Listener, sink: SmtpSink
) -> None:
    sink.script = {"message": [DROP]}
    await with_client(
        listener, lambda client: client.sendmail(SENDER, ["bob@good.test"], CONTENTS["plain text"])
    )
    await relay.run()
    (record,) = relay.ledger.all_deliveries()
    assert [attempt.ambiguous for attempt in record.attempts] == [True, False]
    assert record.status is State.SENT


async def test_a_stranger_may_not_relay(relay: MemoryRelay) -> None:
    settings = IngressSettings(port=0, hostname=HOSTNAME, networks=())
    listener = await serve(settings, relay.acceptance, relay.clock, relay.ids, relay.metrics)

    def talk(client: smtplib.SMTP) -> None:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail(SENDER, ["bob@good.test"], CONTENTS["plain text"])
        assert refused.value.recipients["bob@good.test"][0] == 550

    try:
        await with_client(listener, talk)
    finally:
        await listener.close(grace=0)
    assert relay.spool.objects == {}
