"""The local internet: its names and its inbox."""

from __future__ import annotations

import asyncio
import smtplib
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from empath.domain.errors import PermanentRefusal
from empath.local.errors import LocalStackError
from empath.local.inbox import Inbox, folder_of
from empath.local.internet import LocalInternet
from empath.net.resolver import DnsResolver
from empath.ports import MailExchanger

CLIENTS = ThreadPoolExecutor(20)
CONTENT = b"Subject: x\r\n\r\nbare\nline \xff\r\n..\r\n"


@pytest_asyncio.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Inbox]:
    async with Inbox.running(tmp_path) as inbox:
        yield inbox


async def hand_in(inbox: Inbox, *recipients: str, content: bytes = CONTENT) -> int:
    """The last reply's code, to RCPT or to the message."""

    def talk() -> int:
        with smtplib.SMTP("127.0.0.1", inbox.port, timeout=10) as client:
            client.ehlo("client.test")
            client.mail("sender@example.test")
            for recipient in recipients:
                code, _ = client.rcpt(recipient)
                if code != 250:
                    return code
            client.docmd("DATA")
            client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            return client.getreply()[0]

    # Threads of the client's own: the inbox files its mail in the loop's.
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, talk)


def filed(inbox: Inbox, domain: str) -> list[Path]:
    return sorted((inbox.root / domain / "new").glob("*"))


async def test_every_recipient_gets_a_file_with_the_octets_that_came(inbox: Inbox) -> None:
    assert await hand_in(inbox, "ann@a.test", "bob@A.test", "cid@b.test") == 250
    assert [path.read_bytes() for path in filed(inbox, "a.test")] == [CONTENT, CONTENT]
    assert [path.name.rpartition(".")[2] for path in filed(inbox, "a.test")] == ["ann", "bob"]
    assert [path.read_bytes() for path in filed(inbox, "b.test")] == [CONTENT]
    assert {path.name for path in (inbox.root / "a.test").iterdir()} == {"tmp", "new", "cur"}
    assert not list((inbox.root / "a.test" / "tmp").iterdir())


async def test_reject_test_refuses_recipients(inbox: Inbox) -> None:
    assert await hand_in(inbox, "ann@reject.test") == 550
    assert not (inbox.root / "reject.test").exists()


async def test_defer_test_defers_each_message_twice(inbox: Inbox) -> None:
    codes = [await hand_in(inbox, "ann@defer.test") for _ in range(2)]
    codes += [await hand_in(inbox, "ann@defer.test", content=b"Subject: another\r\n\r\n")]
    codes += [await hand_in(inbox, "ann@defer.test")]
    assert codes == [451, 451, 451, 250]
    assert len(filed(inbox, "defer.test")) == 1


@pytest.mark.parametrize(
    ("recipient", "folder"),
    [
        ("a@example.test", "example.test"),
        ("a@EXAMPLE.test.", "example.test"),
        ("a@bücher.test", "xn--bcher-kva.test"),
        ("a@[127.0.0.1]", "[127.0.0.1]"),
        ("a@../../etc", "_.._etc"),
        ("a@..", "_"),
        ("a@/etc/passwd", "_etc_passwd"),
        ("a@a\x00b", "a_b"),
        ("postmaster", "postmaster"),
        ("a@", "_"),
        ("a@☃/..", "__."),
    ],
)
def test_a_domain_is_one_folder_whatever_it_says(recipient: str, folder: str) -> None:
    assert folder_of(recipient) == folder
    assert Path("/inbox", folder_of(recipient)).resolve().parent == Path("/inbox")


@pytest.mark.parametrize("recipient", ["a@../../../escape", '"../../x"@a.test', "a/../../b@a.test"])
async def test_nothing_is_filed_outside_of_the_inbox(inbox: Inbox, tmp_path: Path, recipient: str) -> None:
    def listing() -> tuple[list[Path], int]:
        return sorted(tmp_path.parent.iterdir()), len(list(tmp_path.glob("*/new/*")))

    around, files = listing()
    await hand_in(inbox, recipient)
    assert listing() == (around, files + 1)


async def test_many_connections_at_once(inbox: Inbox) -> None:
    codes = await asyncio.gather(*(hand_in(inbox, f"u{number}@many.test") for number in range(100)))
    assert set(codes) == {250}
    assert len(filed(inbox, "many.test")) == 100
    assert len(inbox.sessions) <= 100


async def test_a_message_that_cannot_be_filed_is_deferred(inbox: Inbox) -> None:
    (inbox.root / "a.test").write_text("in the way")
    assert await hand_in(inbox, "ann@a.test") == 451


async def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalStackError, match=f"inbox cannot listen on 127.0.0.1:{port}"):
            async with Inbox.running(tmp_path, port=port):
                pass
        with pytest.raises(LocalStackError, match=f"DNS server cannot listen on 127.0.0.1:{port}"):
            async with LocalInternet.running(port=port):
                pass


async def test_the_local_internet_sends_every_domain_to_the_inbox() -> None:
    async with LocalInternet.running() as internet:
        resolver = DnsResolver([internet.nameserver])
        for domain in ("example.com", "deep.sub.example.test", "reject.test", "defer.test", "bücher.test"):
            assert (await resolver.mail_exchangers(domain)).records == (MailExchanger(10, "mx.inbox.test"),)
        assert [str(address) for address in await resolver.addresses("mx.inbox.test")] == ["127.0.0.1"]


async def test_the_simulator_domains_are_what_they_say(inbox: Inbox) -> None:
    async with LocalInternet.running() as internet:
        resolver = DnsResolver([internet.nameserver])
        assert (await resolver.mail_exchangers("nullmx.test")).records == (MailExchanger(0, ""),)
        with pytest.raises(PermanentRefusal):
            await resolver.mail_exchangers("nosuch.test")
        (exchanger,) = (await resolver.mail_exchangers("down.test")).records
        (address,) = await resolver.addresses(exchanger.exchange)
    with pytest.raises(OSError):
        await asyncio.wait_for(asyncio.open_connection(str(address), inbox.port), 1)
