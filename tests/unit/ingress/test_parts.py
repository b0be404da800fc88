"""The small parts round a connection, each by itself."""

from __future__ import annotations

import asyncio
import email
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.address import Mailbox
from empath.domain.envelope import Recipient
from empath.domain.network import IPAddress
from empath.ingress.connections import Connections
from empath.ingress.content_stream import ContentAborted, ContentStream
from empath.ingress.deadline import Deadline
from empath.ingress.pace import Pace
from empath.ingress.relay_policy import RelayPolicy, client_address
from empath.ingress.settings import LOOPBACK
from empath.ingress.trace import format_date, protocol_of, received_field

AT = datetime(2026, 3, 1, 9, 5, 7, tzinfo=timezone(timedelta(hours=2)))
BOB = Mailbox("bob", "two.example")
EVE = Mailbox("eve", "two.example")

# Relay policy


@pytest.mark.parametrize(
    ("client", "trusted"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False), ("::2", False)],
)
def test_only_allowed_networks_relay_however_their_addresses_are_written(client: str, trusted: bool) -> None:
    address = client_address((client, 40000, 0, 0))
    assert RelayPolicy(LOOPBACK).is_trusted(address) is trusted


@pytest.mark.parametrize("peername", [None, (), "", "/run/socket", ("", 0), ("nonsense", 1)])
def test_a_client_without_an_address_is_never_trusted(peername: object) -> None:
    everyone = RelayPolicy([ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert not everyone.is_trusted(client_address(peername))


def test_nothing_is_relayed_when_no_network_is_allowed() -> None:
    policy = RelayPolicy([])
    assert not policy.is_trusted(ip_address("127.0.0.1"))
    refusal = policy.refusal(BOB, may_relay=False)
    assert refusal is not None
    assert str(refusal) == "550 5.7.1 Relaying denied"


def test_an_interface_name_is_no_part_of_an_address() -> None:
    assert client_address(("fe80::1%eth0", 1, 0, 2)) == ip_address("fe80::1")


# Trace information


def field_for(helo: str = "client.example", *recipients: Mailbox, protocol: str = "ESMTP") -> str:
    return received_field(
        helo=helo,
        protocol=protocol,
        client=ip_address("2001:db8::1"),
        hostname="mx.example",
        message_id="01ID",
        recipients=[Recipient(mailbox=mailbox) for mailbox in recipients],
        at=AT,
    )


def test_the_received_field_says_from_by_with_id_for_and_when() -> None:
    assert field_for("client.example", BOB) == (
        "Received: from client.example ([IPv6:2001:db8::1])\r\n"
        "\tby mx.example with ESMTP id 01ID\r\n"
        "\tfor <bob@two.example>;\r\n"
        "\tSun, 1 Mar 2026 07:05:07 +0000\r\n"
    )


def test_several_recipients_do_not_read_of_each_other() -> None:
    field = field_for("client.example", BOB, EVE, protocol="SMTP")
    assert "for" not in field
    assert "with SMTP id 01ID;\r\n" in field


@pytest.mark.parametrize(
    ("helo", "shown"),
    [
        ("client.example", "client.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:::1]", "[IPv6:::1]"),
        ("my_pc", "my_pc"),
        ('a;b(c)<d>"e\\', "a?b?c??d??e?"),
        ("[not-an-address]", "?not-an-address?"),
    ],
)
def test_a_name_that_is_none_cannot_change_the_field(helo: str, shown: str) -> None:
    assert field_for(helo, BOB).startswith(f"Received: from {shown} ([IPv6:2001:db8::1])\r\n")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_the_field_is_one_field_with_short_lines_whatever_the_client_is_called(helo: str) -> None:
    field = field_for(helo, BOB)
    message = email.message_from_string(field + "\r\n")
    assert message.keys() == ["Received"]
    assert all(len(line) <= 998 for line in field.split("\r\n"))
    assert field.count(";") == 1


def test_a_date_is_what_rfc_5322_wants() -> None:
    assert parsedate_to_datetime(format_date(AT)) == AT.astimezone(UTC)


@pytest.mark.parametrize(
    ("facts", "protocol"),
    [
        ({"esmtp": False}, "SMTP"),
        ({}, "ESMTP"),
        ({"tls": True}, "ESMTPS"),
        ({"authenticated": True}, "ESMTPA"),
        ({"tls": True, "authenticated": True}, "ESMTPSA"),
        ({"smtputf8": True}, "UTF8SMTP"),
        ({"smtputf8": True, "tls": True, "authenticated": True}, "UTF8SMTPSA"),
    ],
)
def test_the_protocol_is_named_as_rfc_3848_and_rfc_6531_have_it(
    facts: dict[str, bool], protocol: str
) -> None:
    assert protocol_of(**{"esmtp": True, "smtputf8": False} | facts) == protocol


# Content stream


async def taken(stream: ContentStream) -> list[bytes]:
    return [chunk async for chunk in stream]


async def test_content_comes_out_in_order_and_what_piled_up_comes_at_once() -> None:
    empties: list[int] = []
    stream = ContentStream(lambda: empties.append(1))
    consumer = asyncio.create_task(taken(stream))
    await asyncio.sleep(0)
    stream.feed(b"a")
    stream.feed(b"b")
    assert stream.waiting_octets == 2
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (stream.waiting_octets, empties) == (0, [1])
    stream.feed(b"c")
    stream.end()
    assert await consumer == [b"ab", b"c"]


@pytest.mark.parametrize("waits", [True, False])
async def test_an_aborted_stream_raises_and_drops_what_it_holds(waits: bool) -> None:
    stream = ContentStream(lambda: None)
    consumer = asyncio.create_task(taken(stream))
    if waits:
        await asyncio.sleep(0)
    stream.feed(b"a")
    stream.abort(ContentAborted("gone"))
    stream.feed(b"b")
    stream.end()
    assert stream.waiting_octets == 0
    with pytest.raises(ContentAborted):
        await consumer


async def test_a_complete_message_cannot_be_aborted() -> None:
    stream = ContentStream(lambda: None)
    stream.feed(b"a")
    stream.end()
    stream.abort(ContentAborted("too late"))
    assert await taken(stream) == [b"a"]


# Deadline


async def test_a_deadline_that_is_moved_on_passes_once_and_late() -> None:
    loop = asyncio.get_running_loop()
    passed: list[float] = []
    deadline = Deadline(loop, lambda: passed.append(loop.time()))
    start = loop.time()
    deadline.set(start + 0.02)
    deadline.set(start + 0.06)
    await asyncio.sleep(0.1)
    assert len(passed) == 1
    assert passed[0] >= start + 0.06


async def test_a_deadline_can_be_moved_closer_and_cancelled() -> None:
    loop = asyncio.get_running_loop()
    passed: list[int] = []
    deadline = Deadline(loop, lambda: passed.append(1))
    deadline.set(loop.time() + 60)
    deadline.set(loop.time() + 0.01)
    await asyncio.sleep(0.03)
    assert passed == [1]
    deadline.set(loop.time() + 0.01)
    deadline.cancel()
    await asyncio.sleep(0.03)
    assert passed == [1]


# Connections


async def test_connections_are_counted_in_all_and_per_client() -> None:
    here, there = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    connections: Connections[str] = Connections(4, 2)

    def connect(name: str, client: IPAddress | None) -> bool:
        return connections.add(name) and connections.count_for(name, client)

    assert connect("a", here)
    assert connect("b", here)
    assert not connect("c", here)
    assert connect("c", there)
    assert connect("d", None)
    assert not connect("e", there)
    connections.remove("never added")
    connections.remove("a")
    assert connect("e", here)
    assert not connect("f", None)
    for name in "bcde":
        connections.remove(name)
    async with asyncio.timeout(1):
        await connections.none_left()
    assert len(connections) == 0


def test_a_client_that_sends_steadily_has_all_the_time() -> None:
    pace = Pace(0.0, block=180, min_rate=500)
    assert all(pace.received(500, now) > now for now in range(1, 100_000))


def test_a_silent_client_has_the_time_of_a_block_and_no_more_for_having_been_quick() -> None:
    pace = Pace(0.0, block=180, min_rate=500)
    assert pace.received(50_000_000, 10.0) == 190.0


@pytest.mark.parametrize("pause", [0.1, 10, 179])
def test_a_trickle_runs_out_of_time_however_short_its_pauses(pause: float) -> None:
    """One octet every now and then resets no timer: RFC 5321 §4.5.3.2.5 allows for slowness, not for this."""
    pace, now = Pace(0.0, block=180, min_rate=500), 0.0
    while now < 1000:
        now += pause
        if pace.received(1, now) <= now:
            break
    assert 180 <= now <= 362


def test_time_that_the_storage_took_is_not_the_clients() -> None:
    pace = Pace(0.0, block=180, min_rate=500)
    pace.resumed(1000.0)
    assert pace.received(1, 1000.0) == 1180.0


RELAY_DOMAINS = RelayPolicy([], ["ours.example", ".below.example"])


@pytest.mark.parametrize(
    ("local_part", "domain", "answer"),
    [
        ("bob", "ours.example", None),
        ("bob", "OURS.Example", None),
        ("bob", "x.below.example", None),
        ("bob", "below.example", "550 5.7.1 Relaying denied"),
        ("bob", "x.ours.example", "550 5.7.1 Relaying denied"),
        ("bob", "notours.example", "550 5.7.1 Relaying denied"),
        ("bob", "ours.example.evil.example", "550 5.7.1 Relaying denied"),
        (
            "bob%evil.example",
            "ours.example",
            "550 5.7.1 Relaying denied: routing by the sender in the local part",
        ),
        (
            "evil.example!bob",
            "ours.example",
            "550 5.7.1 Relaying denied: routing by the sender in the local part",
        ),
        (
            "bob@evil.example",
            "ours.example",
            "550 5.7.1 Relaying denied: routing by the sender in the local part",
        ),
    ],
)
def test_a_stranger_may_send_to_the_relay_domains_and_through_them_nowhere(
    local_part: str, domain: str, answer: str | None
) -> None:
    refusal = RELAY_DOMAINS.refusal(Mailbox(local_part, domain), may_relay=False)
    assert (None if refusal is None else str(refusal)) == answer
    assert RELAY_DOMAINS.refusal(Mailbox(local_part, domain), may_relay=True) is None
