"""Open relay probes. The rule: a client outside of the allowed networks relays to nobody, however the
recipient is written, for the domain after the last @ is all that counts (RFC 5321 §4.1.2, §7.7)."""

from __future__ import annotations

from typing import Any

import pytest

SENDERS = [b"<spammer@one.example>", b"<>", b"<postmaster@mx.example>", b"<a@[127.0.0.1]>"]
PROBES = {
    "plain": b"<victim@two.example>",
    "percent hack": b"<victim%two.example@mx.example>",
    "percent hack, quoted": b'<"victim%two.example"@mx.example>',
    "percent hack, twice": b"<victim%two.example%three.example@[127.0.0.1]>",
    "bang path": b"<two.example!victim>",
    "bang path at us": b"<two.example!victim@mx.example>",
    "quoted address": b'<"victim@two.example">',
    "quoted address at us": b'<"victim@two.example"@mx.example>',
    "source route": b"<@mx.example:victim@two.example>",
    "source route over two": b"<@mx.example,@one.example:victim@two.example>",
    "two at signs": b"<victim@two.example@mx.example>",
    "address literal": b"<victim@[127.0.0.1]>",
    "address literal, IPv6": b"<victim@[IPv6:::1]>",
    "address literal, mapped": b"<victim@[IPv6:::ffff:127.0.0.1]>",
    "address literal, our name in it": b"<victim@[mx.example]>",
    "our own postmaster": b"<Postmaster>",
    "no domain": b"<victim>",
    "empty": b"<>",
    "no brackets": b"victim@two.example",
    "group": b"<friends: victim@two.example;>",
    "domain in capitals with a final dot": b"<victim@TWO.EXAMPLE.>",
    "LF in a quoted part": b'<"victim\n@two.example"@mx.example>',
    "NUL": b"<victim@two.example\x00@mx.example>",
}


@pytest.mark.parametrize("name", PROBES)
async def test_no_probe_relays(start: Any, name: str) -> None:
    target = await start(networks=())
    for sender in SENDERS:
        replies = await target.attack(
            b"EHLO evil.example\r\nMAIL FROM:" + sender + b"\r\nRCPT TO:" + PROBES[name] + b"\r\n",
            b"BDAT 6 LAST\r\nspam\r\nDATA\r\nQUIT\r\n",
        )
        assert replies[-5].startswith("250 2.1.0 ")
        assert replies[-4][:3] in {"550", "501", "500"}, name
        assert {line[:3] for line in replies[-3:-1]} <= {"503", "554"}
    assert target.messages == []
    assert target.jobs() == []


@pytest.mark.parametrize("name", PROBES)
async def test_no_probe_relays_through_a_domain_that_is_relayed_to(start: Any, name: str) -> None:
    """Anybody may send to our domains; a route in the local part would make their host the relay."""
    target = await start(networks=(), relay_domains=("mx.example",))
    replies = await target.attack(
        b"EHLO evil.example\r\nMAIL FROM:<>\r\nRCPT TO:"
        + PROBES[name]
        + b"\r\nBDAT 6 LAST\r\nspam\r\nQUIT\r\n"
    )
    if name == "our own postmaster":
        [job] = target.jobs()
        assert [str(one.mailbox) for one in job.recipients] == ["postmaster@mx.example"]
    else:
        assert replies[-3][:3] in {"550", "501", "500"}, name
        assert target.jobs() == []


@pytest.mark.parametrize("name", ["percent hack", "bang path at us", "quoted address at us"])
async def test_a_trusted_client_gets_the_address_it_wrote_and_no_route_out_of_it(
    target: Any, name: str
) -> None:
    """The local part is opaque (RFC 5321 §2.3.11): nobody takes another domain out of it."""
    await target.attack(
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:" + PROBES[name] + b"\r\nBDAT 4 LAST\r\nhi\r\nQUIT\r\n"
    )
    [job] = target.jobs()
    assert [recipient.mailbox.destination for recipient in job.recipients] == ["mx.example"]


async def test_a_source_route_is_ignored_and_never_followed(target: Any) -> None:
    """RFC 5321 appendix F.2: the route is stripped, the mailbox stays."""
    await target.attack(
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:" + PROBES["source route"] + b"\r\nBDAT 4 LAST\r\nhi\r\nQUIT\r\n"
    )
    [job] = target.jobs()
    assert [str(recipient.mailbox) for recipient in job.recipients] == ["victim@two.example"]


async def test_the_name_in_ehlo_and_the_sender_prove_nothing(start: Any) -> None:
    """RFC 5321 §4.1.4: trust comes from the address of the connection alone."""
    target = await start(networks=())
    for name in (b"mx.example", b"localhost", b"[127.0.0.1]"):
        replies = await target.attack(
            b"EHLO " + name + b"\r\nMAIL FROM:<root@mx.example>\r\nRCPT TO:<victim@two.example>\r\nQUIT\r\n"
        )
        assert replies[-2] == "550 5.7.1 Relaying denied"
    assert target.jobs() == []
