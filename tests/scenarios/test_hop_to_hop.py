"""Our own client to our own server, and from there to a sink: both sides of the protocol meet."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator

import pytest

from empath.domain.address import parse_mailbox
from empath.domain.envelope import Envelope, Recipient, Source
from empath.domain.outcome import Failed, Sent
from empath.ingress.listener import serve
from empath.ingress.settings import IngressSettings
from empath.net.dialer import SmtpDialer
from empath.net.resolver import DnsResolver
from empath.ports import Endpoint, Transaction
from empath.testing.dns_server import serving
from empath.testing.relay import HOSTNAME, MemoryRelay
from empath.testing.smtp_sink import SmtpSink
from empath.testing.zones import Node

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
CONTENTS = [
    b"Subject: dots\r\n\r\n.\r\n..\r\n.hidden\r\n\r\n.\r\n",
    "Subject: h\u00e9llo\r\n\r\nGr\u00fc\u00dfe \u2709\r\n".encode(),
    b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 40_000,
]


def mail(recipients: list[str], content: bytes) -> Transaction:
    async def read() -> AsyncIterator[bytes]:
        yield content

    return Transaction("ann@sender.test", recipients, read, len(content), eight_bit=True)


@pytest.mark.parametrize("offered", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING", "8BITMIME", "SIZE")])
async def test_mail_that_our_client_hands_to_our_server_arrives_octet_for_octet(
    offered: tuple[str, ...],
) -> None:
    async with SmtpSink(extensions=offered) as sink, serving({"*": Node(a=["127.0.0.1"])}) as dns:
        relay = MemoryRelay(dialer=SmtpDialer(HOSTNAME), resolver=DnsResolver([dns.nameserver]))
        relay.control.items["*"] = {"allow_addresses": ["127.0.0.0/8"], "port": sink.port}
        settings = IngressSettings(port=0, hostname=HOSTNAME)
        listener = await serve(settings, relay.acceptance, relay.clock, relay.ids, relay.metrics)
        endpoint = Endpoint(
            HOSTNAME, ipaddress.ip_address("127.0.0.1"), listener.port, allow_addresses=LOOPBACK
        )
        channel = await SmtpDialer("client.test").connect(endpoint, deadline=20)
        recipients = ["bob@good.test", "not an address", "eve@good.test"]
        for content in CONTENTS:
            outcomes = (await channel.transact(mail(recipients, content))).outcomes
            assert [type(outcomes[recipient]) for recipient in recipients] == [Sent, Failed, Sent]
            assert channel.is_usable
        nobody = await channel.transact(mail(["nobody@-bad-.test"], CONTENTS[0]))
        assert [type(outcome) for outcome in nobody.outcomes.values()] == [Failed]
        assert isinstance(
            (await channel.transact(mail(["b@good.test"], CONTENTS[0]))).outcomes["b@good.test"], Sent
        )
        await channel.close()
        await listener.close(grace=0)
        await relay.run()
    arrived = [message.content for message in sink.accepted]
    assert len(arrived) == 4
    for content in CONTENTS:
        assert any(one.startswith(b"Received:") and one.endswith(content) for one in arrived)


async def test_what_was_asked_about_reports_reaches_a_next_hop_that_gives_them() -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"Subject: asked\r\n\r\n"

    envelope = Envelope(
        reverse_path=parse_mailbox("ann@sender.test"),
        recipients=(
            Recipient(mailbox=parse_mailbox("bob@good.test"), notify=("NEVER",), orcpt="rfc822;b@first.test"),
            Recipient(mailbox=parse_mailbox("eve@good.test")),
        ),
        envid="QQ314159",
        ret="HDRS",
    )
    async with (
        SmtpSink(extensions=("PIPELINING", "DSN")) as sink,
        serving({"*": Node(a=["127.0.0.1"])}) as dns,
    ):
        relay = MemoryRelay(dialer=SmtpDialer(HOSTNAME), resolver=DnsResolver([dns.nameserver]))
        relay.control.items["*"] = {"allow_addresses": ["127.0.0.0/8"], "port": sink.port}
        await relay.acceptance.accept(
            message_id=relay.ids.new_id(),
            received_at=relay.clock.now(),
            envelope=envelope,
            source=Source(client="127.0.0.1"),
            content=content(),
        )
        await relay.run()
    (message,) = sink.accepted
    assert message.parameters == ("RET=HDRS", "ENVID=QQ314159")
    parameters = dict(zip(message.recipients, message.rcpt_parameters, strict=True))
    assert parameters == {
        "bob@good.test": ("NOTIFY=NEVER", "ORCPT=rfc822;b@first.test"),
        "eve@good.test": (),
    }
