"""What a client asks about reports, and what comes back, with real sockets at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
from collections.abc import AsyncIterator

import pytest

from empath.dsn.parse import parse_report
from empath.ingress.listener import Listener, serve
from empath.ingress.settings import IngressSettings
from empath.net.dialer import SmtpDialer
from empath.net.resolver import DnsResolver
from empath.testing.dns_server import serving
from empath.testing.relay import HOSTNAME, MemoryRelay
from empath.testing.smtp_sink import SmtpSink
from empath.testing.smtp_sink_script import SinkMessage
from empath.testing.zones import Node

SENDER = "ann@sender.test"
CONTENT = b"Subject: asked\r\n\r\nHello.\r\n"


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=10) as client:
        client.ehlo()
        client.mail(SENDER, ["RET=FULL", "ENVID=QQ+2D1"])
        client.rcpt("bob@good.test", ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@first.test"])
        client.rcpt("eve@good.test", ["NOTIFY=NEVER"])
        client.rcpt("bob@reject.test", ["NOTIFY=FAILURE"])
        client.rcpt("eve@reject.test", ["NOTIFY=NEVER"])
        assert client.data(CONTENT)[0] == 250


@contextlib.asynccontextmanager
async def open_relay(sink: SmtpSink) -> AsyncIterator[tuple[MemoryRelay, Listener]]:
    """A relay whose every next hop is `sink`."""
    async with serving({"*": Node(a=["127.0.0.1"])}) as dns:
        relay = MemoryRelay(dialer=SmtpDialer(HOSTNAME), resolver=DnsResolver([dns.nameserver]))
        relay.control.items["*"] = {"allow_addresses": ["127.0.0.0/8"], "port": sink.port}
        settings = IngressSettings(port=0, hostname=HOSTNAME)
        listener = await serve(settings, relay.acceptance, relay.clock, relay.ids, relay.metrics)
        try:
            yield relay, listener
        finally:
            await listener.close(grace=0)


async def arrived(extensions: tuple[str, ...]) -> list[SinkMessage]:
    """What the next hop took, reports among it, in the order of their recipients."""
    async with (
        SmtpSink({"RCPT @reject.test": "550 5.1.1 No such user here"}, extensions=extensions) as sink,
        open_relay(sink) as (relay, listener),
    ):
        await asyncio.to_thread(send, listener.port)
        await relay.run()
        assert relay.spool.objects == {}
        return sink.accepted


@pytest.mark.parametrize("has_dsn", [False, True])
async def test_the_sender_hears_what_it_asked_for_and_who_has_dsn_is_told_the_rest(has_dsn: bool) -> None:
    messages = await arrived(("PIPELINING", "DSN") if has_dsn else ("PIPELINING",))
    (sent,) = [message for message in messages if message.reverse_path]
    asked = (("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@first.test"), ("NOTIFY=NEVER",))
    assert sent.recipients == ("bob@good.test", "eve@good.test")
    assert sent.rcpt_parameters == (asked if has_dsn else ((), ()))
    reports = [message for message in messages if not message.reverse_path]
    assert {message.recipients for message in reports} == {(SENDER,)}
    parsed = [parse_report(message.content) for message in reports]
    told = {
        recipient.final_recipient: (recipient.action.value, recipient.original_recipient, report.envid)
        for report in parsed
        for recipient in report.recipients
    }
    relayed = {"bob@good.test": ("relayed", "rfc822;Bob@first.test", "QQ-1")}
    failed = {"bob@reject.test": ("failed", None, "QQ-1")}
    assert told == (failed if has_dsn else {**failed, **relayed})
    (whole,) = [report.original_message for report in parsed if report.original_message]
    assert whole.endswith(CONTENT)
    assert whole.startswith(b"Received: from client.test")


UTF8_HEADER = "Subject: grüß dich\r\n\r\nHello.\r\n".encode()


@pytest.mark.parametrize(
    ("content", "sender", "recipients", "sent_to"),
    [
        (CONTENT, SENDER, ["bob@good.test"], ["bob@good.test"]),
        ("Subject: a\r\n\r\nGrüße\r\n".encode(), SENDER, ["bob@good.test"], ["bob@good.test"]),
        (CONTENT, "ann@bücher.test", ["bob@bücher.test"], ["bob@xn--bcher-kva.test"]),
        (CONTENT, SENDER, ["jörg@bücher.test", "bob@bücher.test"], ["bob@xn--bcher-kva.test"]),
        (UTF8_HEADER, SENDER, ["bob@good.test"], []),
        (CONTENT, "jörg@sender.test", ["bob@good.test"], []),
    ],
)
async def test_a_next_hop_without_smtputf8_is_sent_what_needs_none_whatever_was_declared(
    content: bytes, sender: str, recipients: list[str], sent_to: list[str]
) -> None:
    """RFC 6531 §3.3: it is the addresses and the header section that may need it."""

    def submit(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=10) as client:
            client.ehlo()
            client.command_encoding = "utf-8"
            client.mail(sender, ["SMTPUTF8", "BODY=8BITMIME"])
            for recipient in recipients:
                assert client.rcpt(recipient)[0] == 250
            assert client.data(content)[0] == 250

    async with SmtpSink(extensions=("PIPELINING", "8BITMIME")) as sink, open_relay(sink) as (relay, listener):
        await asyncio.to_thread(submit, listener.port)
        await relay.run()
    sent = [
        recipient for message in sink.accepted if message.reverse_path for recipient in message.recipients
    ]
    assert sent == sent_to


async def test_a_report_reaches_an_internationalised_domain_without_smtputf8() -> None:
    def submit(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=10) as client:
            client.ehlo()
            client.command_encoding = "utf-8"
            client.mail("ann@bücher.test", ["SMTPUTF8"])
            client.rcpt("bob@reject.test")
            assert client.data(CONTENT)[0] == 250

    refusing = {"RCPT @reject.test": "550 5.1.1 No such user here"}
    async with (
        SmtpSink(refusing, extensions=("PIPELINING", "8BITMIME")) as sink,
        open_relay(sink) as (relay, listener),
    ):
        await asyncio.to_thread(submit, listener.port)
        await relay.run()
    (report,) = sink.accepted
    assert (report.reverse_path, report.recipients) == ("", ("ann@xn--bcher-kva.test",))
