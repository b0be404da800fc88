"""Clients that people use, each by every way in: what they hand over is stored octet for octet.

The real ingress, with its password check, behind smtplib and aiosmtplib. What was tried by hand with other
programs is in docs/INTEROP.md.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from empath.aws.attributes import encode_item
from empath.domain.password import hash_password
from empath.testing.certificates import client_context, self_signed
from tests.scenarios.ingress_process import WITHIN, Ingress, starting
from tests.scenarios.small_aws import SmallAws

USER, PASSWORD = "ann", "correct horse"
HEADER = b"From: ann@one.example\r\nMessage-ID: <1@one.example>\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\n"


@dataclass(frozen=True)
class Way:
    """How a client comes in."""

    port: str
    tls: str = "no"
    """`no`, `starttls` or `implicit`."""
    mechanism: str | None = None

    @property
    def protocol(self) -> str:
        """What the trace header calls it (RFC 3848)."""
        return "ESMTP" + ("S" if self.tls != "no" else "") + ("A" if self.mechanism else "")

    def __str__(self) -> str:
        return " ".join(filter(None, (self.port, self.tls, self.mechanism)))


@dataclass(frozen=True)
class Letter:
    content: bytes
    sender: str = "ann@one.example"
    recipient: str = "bob@two.example"
    options: tuple[str, ...] = ()


WAYS = [
    Way("relay"),
    Way("relay", "starttls"),
    *(Way("relay", "starttls", mechanism) for mechanism in ("PLAIN", "LOGIN")),
    *(Way("submission", "starttls", mechanism) for mechanism in ("PLAIN", "LOGIN")),
    *(Way("submissions", "implicit", mechanism) for mechanism in ("PLAIN", "LOGIN")),
]
PLAIN_WAY, TLS_WAY = WAYS[0], WAYS[-2]

SHORT = Letter(HEADER + b"Subject: hi\r\n\r\nHello.\r\n.a line with a dot\r\n..two\r\n.\r\n\r\nThe end\r\n")
LETTERS = {
    "8BITMIME": Letter(HEADER + "\r\nGrüße\r\n".encode("latin-1"), options=("BODY=8BITMIME",)),
    "SMTPUTF8": Letter(
        HEADER + "Subject: Grüße\r\n\r\nGrüße\r\n".encode(),
        sender="jörg@one.example",
        recipient="用户@例子.example",
        options=("SMTPUTF8", "BODY=8BITMIME"),
    ),
    "10 MB": Letter(HEADER + b"\r\n" + (b"." + b"x" * 75 + b"\r\n") * (10_000_000 // 78)),
}


def by_smtplib(port: int, tls: ssl.SSLContext, way: Way, letter: Letter) -> None:
    client = (
        smtplib.SMTP_SSL("127.0.0.1", port, timeout=WITHIN, context=tls)
        if way.tls == "implicit"
        else smtplib.SMTP("127.0.0.1", port, timeout=WITHIN)
    )
    with client:
        if way.tls == "starttls":
            client.starttls(context=tls)
        client.ehlo()
        if way.mechanism is not None:
            client.user, client.password = USER, PASSWORD
            answer: Any = client.auth_plain if way.mechanism == "PLAIN" else client.auth_login
            assert client.auth(way.mechanism, answer)[0] == 235
        refused = client.sendmail(letter.sender, [letter.recipient], letter.content, list(letter.options))
        assert refused == {}


def by_aiosmtplib(port: int, tls: ssl.SSLContext, way: Way, letter: Letter) -> None:
    async def send() -> None:
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1",
            port=port,
            timeout=WITHIN,
            use_tls=way.tls == "implicit",
            start_tls=way.tls == "starttls",
            tls_context=tls,
        )
        async with client:
            await client.ehlo()
            if way.mechanism is not None:
                answer = client.auth_plain if way.mechanism == "PLAIN" else client.auth_login
                assert (await answer(USER, PASSWORD)).code == 235
            refused, _ = await client.sendmail(
                letter.sender, [letter.recipient], letter.content, mail_options=list(letter.options)
            )
            assert refused == {}

    asyncio.run(send())


Send = Callable[[int, ssl.SSLContext, Way, Letter], None]
CLIENTS: list[Send] = [by_smtplib, by_aiosmtplib]


@dataclass
class Relay:
    ingress: Ingress
    aws: SmallAws
    tls: ssl.SSLContext

    def takes(self, send: Send, way: Way, letter: Letter) -> None:
        send(self.ingress.port_for(way.port), self.tls, way, letter)
        [job], [content] = self.aws.jobs, self.aws.accepted()
        assert content == letter.content
        assert (job["reverse_path"], job["recipients"]) == (letter.sender, [{"mailbox": letter.recipient}])
        assert job["source"].get("user") == (USER if way.mechanism else None)
        assert job["source"].get("tls", "").startswith("TLSv1.3") == (way.tls != "no")
        assert job["eight_bit"] == ("BODY=8BITMIME" in letter.options)
        assert job["smtputf8"] == ("SMTPUTF8" in letter.options)
        protocol = way.protocol.replace("ESMTP", "UTF8SMTP") if job["smtputf8"] else way.protocol
        assert f" with {protocol} id " in job["prepend"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    folder: Path = tmp_path_factory.mktemp("relay")
    certificate, key = self_signed("mx.example", also=["127.0.0.1"])
    (folder / "both.pem").write_bytes(certificate + key)
    with SmallAws.running() as aws, starting(folder) as start:
        aws.items[f"user#{USER}"] = {"pk": {"S": f"user#{USER}"}} | encode_item(
            {
                "password_hash": hash_password(PASSWORD, b"sixteen octets .."),
                "domains": ["one.example"],
                "created_at": "2026-11-21T09:00:00.000Z",
            }
        )
        ingress = start(
            **aws.environment,
            EMPATH_CONTROL_TABLE="control",
            EMPATH_SUBMISSION_PORT="0",
            EMPATH_SUBMISSIONS_PORT="0",
            EMPATH_TLS_CERTIFICATE=str(folder / "both.pem"),
            EMPATH_TLS_KEY=str(folder / "both.pem"),
        )
        yield Relay(ingress, aws, client_context(certificate))


@pytest.fixture
def relay(running: Relay) -> Relay:
    running.aws.jobs.clear()
    running.aws.objects.clear()
    return running


@pytest.mark.parametrize("send", CLIENTS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_client_delivers_by_every_way_in(relay: Relay, send: Send, way: Way) -> None:
    relay.takes(send, way, SHORT)


@pytest.mark.parametrize("send", CLIENTS)
@pytest.mark.parametrize("way", [PLAIN_WAY, TLS_WAY], ids=str)
@pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS)
def test_a_client_delivers_what_is_not_short_and_ascii(
    relay: Relay, send: Send, way: Way, letter: Letter
) -> None:
    relay.takes(send, way, letter)
