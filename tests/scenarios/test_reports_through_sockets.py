"""What a client asks about reports, and what comes back, with real sockets at both ends."""

from __future__ import annotations

import asyncio
import smtplib

import pytest

from empath.dsn.parse import parse_report
from empath.ingress.listener import serve
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


async def arrived(extensions: tuple[str, ...]) -> list[SinkMessage]:
    """What the next hop took, reports among it, in the order of their recipients."""
    async with (
        SmtpSink({"RCPT @reject.test": "550 5.1.1 No such user here"}, extensions=extensions) as sink,
        serving({"*": Node(a=["127.0.0.1"])}) as dns,
    ):
        relay = MemoryRelay(dialer=SmtpDialer(HOSTNAME), resolver=DnsResolver([dns.nameserver]))
        relay.control.items["*"] = {"allow_addresses": ["127.0.0.0/8"], "port": sink.port}
        settings = IngressSettings(port=0, hostname=HOSTNAME)
        listener = await serve(settings, relay.acceptance, relay.clock, relay.ids, relay.metrics)
        await asyncio.to_thread(send, listener.port)
        await listener.close(grace=0)
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
