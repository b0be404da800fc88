"""The delivery engine against a real next hop: what it is told, in how many round trips, and what arrives.

    .venv/bin/python -m benchmarks.interop 127.0.0.1:2525 --accepted ok@hop.test [--also also@hop.test]
        [--refused refused@hop.test] [--deferred deferred@hop.test] [--received DIRECTORY] [--tls verified]

For trials of a mail server by hand: dialer and pool as the deliver stage has them, one trial after the other
on connections that are kept. Between the two lies a recorder that passes octets on and counts flights (the
times that the client spoke and then waited), so that TLS changes nothing. With `--received` (Maildir/new, or
any directory with a file per message) every message is compared with what was sent, behind the trace fields
that servers put in front; line ends are, too, when the file has CRLF. Exit code 1 when an outcome
is not the one that was to be expected, or a message arrived changed.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from empath.domain.errors import Refusal
from empath.domain.outcome import outcome_of_refusal
from empath.domain.policy import TlsMode
from empath.net.dialer import SmtpDialer
from empath.net.pool import ConnectionPool
from empath.net.tls import TlsContexts
from empath.ports import Credentials, Endpoint, Transaction, TransactionResult
from empath.smtp.client import BLOCK
from empath.system import SystemClock
from empath.testing.metrics import CountedMetrics

SENDER = "interop@sender.test"
LOOPBACK = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
PATIENCE = 5.0
"""Seconds for a message to show up in the directory of received ones."""


@dataclass(slots=True)
class Recorder:
    """Passes octets on between the client and the next hop, and counts."""

    host: str
    port: int
    keep: bool = False
    """Whether to keep what is said, for `--show`."""
    connections: int = 0
    flights: int = 0
    early: int = 0
    """Connections on which the client spoke before it was greeted."""
    said: list[tuple[str, bytes]] = field(default_factory=list)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """Let connections that are being closed come to their end."""
        if self._open:
            await asyncio.wait(self._open, timeout=2)
        for task in self._open:
            task.cancel()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(self.host, self.port)
        except OSError:  # the client sees a connection that is lost
            writer.close()
            return
        is_clients_turn = False
        greeted = False

        def heard(octets: bytes) -> None:
            nonlocal is_clients_turn
            if not is_clients_turn:
                self.flights += 1
                self.early += not greeted
            is_clients_turn = True
            self._note(">", octets)

        def answered(octets: bytes) -> None:
            nonlocal is_clients_turn, greeted
            is_clients_turn, greeted = False, True
            self._note("<", octets)

        await asyncio.gather(_copy(reader, there[1], heard), _copy(there[0], writer, answered))

    def _note(self, side: str, octets: bytes) -> None:
        if self.keep:
            self.said.append((side, octets))


async def _copy(
    source: asyncio.StreamReader, to: asyncio.StreamWriter, note: Callable[[bytes], None]
) -> None:
    try:
        while octets := await source.read(65_536):
            note(octets)
            to.write(octets)
            await to.drain()
    except ConnectionError:
        pass  # the other direction ends by itself, as it would without a recorder
    finally:
        to.close()


@dataclass(slots=True)
class Trials:
    """What the trials share."""

    pool: ConnectionPool
    endpoint: Endpoint
    recorder: Recorder
    given: argparse.Namespace
    wrong: int = 0
    number: int = 0
    patience: float = PATIENCE

    async def run(self, name: str, expected: str, mail: Transaction, sent: bytes | None = None) -> None:
        """Send it and report; `expected` is what the outcomes begin with, in the order of the recipients."""
        recorder = self.recorder
        recorder.said.clear()
        before = recorder.connections, recorder.flights
        began = time.perf_counter()
        tls: str | None = None
        try:
            channel = await self.pool.connect(self.endpoint, deadline=120)
        except Refusal as refusal:
            outcome = outcome_of_refusal(refusal)
            result = TransactionResult(dict.fromkeys(mail.recipients, outcome))
        else:
            result = await channel.transact(mail)
            tls = channel.tls
            await channel.close()
        took = time.perf_counter() - began
        codes = [str(outcome.reply.code) for outcome in result.outcomes.values()]
        verdict = "" if expected == "*" or " ".join(code[0] for code in codes) == expected else " UNEXPECTED"
        if sent is not None and self.given.received and "2" in expected:
            same = await self._compare(sent)
            self.patience = 0.0 if same == "did not arrive" else PATIENCE
            verdict += f"; {same}" if same == "as sent" else f" CHANGED: {same}"
        self.wrong += "UNEXPECTED" in verdict or "CHANGED" in verdict
        connections, flights = recorder.connections - before[0], recorder.flights - before[1]
        new = f", {connections} new" if connections else ""
        sys.stdout.write(
            f"{name:34}{' '.join(codes):16}{flights:3} flights{new:9}{took * 1000:8.0f} ms{verdict}\n"
        )
        if verdict.startswith(" UNEXPECTED") or self.given.verbose:
            for address, outcome in result.outcomes.items():
                sys.stdout.write(f"    {address}: {outcome.reply}\n")
            told = ", ".join(sorted(result.passed_on)) or "nobody"
            sys.stdout.write(f"    TLS {tls}; ambiguous {result.ambiguous}; DSN passed on for {told}\n")
        if self.given.show:
            for side, octets in recorder.said:
                shown = octets if len(octets) < 2000 else octets[:900] + b" [...] " + octets[-100:]
                sys.stdout.write("".join(f"    {side} {line!r}\n" for line in shown.split(b"\r\n") if line))

    def mail(self, content: bytes, *recipients: str, **more: object) -> tuple[Transaction, bytes]:
        """A transaction, and its content with a first line that makes it known again."""
        self.number += 1
        content = b"X-Interop: %d-%d\r\n" % (time.time_ns(), self.number) + content

        async def read() -> AsyncIterator[bytes]:
            for begin in range(0, len(content), 100_000):
                yield content[begin : begin + 100_000]

        mail = Transaction(SENDER, recipients or (self.given.accepted,), read, len(content))
        return replace(mail, **more), content  # type: ignore[arg-type]  # fields of Transaction by name

    async def _compare(self, sent: bytes) -> str:
        mark = sent[: sent.index(b"\r\n")]
        end = time.monotonic() + self.patience
        while (found := self._received(mark)) is None:
            if time.monotonic() > end:
                return "did not arrive"
            await asyncio.sleep(0.05)
        got = found[found.index(mark) :]
        if b"\r\n" not in got:
            sent = sent.replace(b"\r\n", b"\n")
        if got == sent:
            return "as sent"
        for end_of_line in (b"\r\n", b"\n"):
            if got == sent + end_of_line:
                return "an end of line was added" if sent.endswith(end_of_line) else "as sent"
        at = next(
            (at for at, (a, b) in enumerate(zip(got, sent, strict=False)) if a != b), min(len(got), len(sent))
        )
        return f"from octet {at} of {len(sent)}: sent {sent[at : at + 24]!r}, received {got[at : at + 24]!r}"

    def _received(self, mark: bytes) -> bytes | None:
        for path in sorted(Path(self.given.received).rglob("*"), reverse=True):
            if path.is_file() and not path.name.startswith(".") and "tmp" not in path.parts[-2:]:
                content = path.read_bytes()
                # In the header section: a report that quotes it is another message.
                if mark in content.replace(b"\r", b"").partition(b"\n\n")[0]:
                    path.unlink()
                    return content
        return None


HEADER = b"""From: <interop@sender.test>\r
Subject: interop\r
Message-ID: <interop@sender.test>\r
Date: Sat, 1 Jan 2022 00:00:00 +0000\r
\r
"""
LINES = b"".join(
    b"%07d The quick brown fox jumps over the lazy dog and runs away.\r\n" % n for n in range(1000)
)
DOTS = b".\r\n..\r\n.a\r\n.\r\nQUIT\r\n....\r\n" * 40


async def all_of_them(trials: Trials) -> None:
    given, run, mail = trials.given, trials.run, trials.mail
    ok, also, refused, deferred = given.accepted, given.also, given.refused, given.deferred
    await run("first message", "2", *mail(HEADER + b"Hello\r\n"))
    for _ in range(3):
        await run("the same again", "2", *mail(HEADER + b"Hello\r\n"))
    content: dict[str, bytes] = {
        "5 kB": LINES[:5000],
        "dots": DOTS,
        "no end of line at the end": b"Hello",
        "a dot without its line's end": b"Hello\r\n.",
        "no body": b"",
        "8-bit": "Grüße, 用户\r\n".encode() * 20,
        "lines of 998 octets": (b"x" * 998 + b"\r\n") * 20,
        "lines of 5,000 octets": (b"x" * 5000 + b"\r\n") * 20,
        "just a block": b"",
        "1 MB": LINES * 15,
        "1 MB of dots": DOTS * 500,
        "20 MB": LINES * 300,
    }
    for name, body in content.items():
        whole = HEADER + body
        if name == "just a block":  # with the first line, as many octets as do not go in one flight any more
            room = BLOCK - len(whole) - len(mail(b"")[1])
            whole += LINES[: room - room % 69 - 69] + b"y" * (room % 69 + 67) + b"\r\n"
        await run(
            name, given.too_big if len(whole) > given.limit else "2", *mail(whole, eight_bit=name == "8-bit")
        )
    if also:
        await run("two recipients", "2 2", *mail(HEADER + b"Two\r\n", ok, also))
    if refused:
        await run("one of two is refused", "2 5", *mail(HEADER + b"One\r\n", ok, refused))
        await run("the only one is refused", "5", *mail(HEADER + b"None\r\n", refused))
        await run("the same, 1 MB", "5", *mail(HEADER + LINES * 15, refused))
        await run("accepted once more", "2", *mail(HEADER + b"After\r\n"))
    if refused and deferred:
        await run("refused, deferred, accepted", "5 4 2", *mail(HEADER + b"Mixed\r\n", refused, deferred, ok))
        await run("refused and deferred", "5 4", *mail(HEADER + b"Neither\r\n", refused, deferred))
        await run("accepted once more", "2", *mail(HEADER + b"After\r\n"))
    domain = ok.rpartition("@")[2]
    await run("SMTPUTF8 address", given.utf8, *mail(HEADER + b"Hi\r\n", f"jörg@{domain}", smtputf8=True))
    report = mail(
        HEADER + b"DSN\r\n",
        notify={ok: ("SUCCESS", "FAILURE")},
        orcpt={ok: f"rfc822;Original+2B@{domain}"},
        envid="QQ+2B1",
        ret="HDRS",
    )
    await run("DSN parameters", "2", *report)
    huge, _ = mail(HEADER + b"Big\r\n")
    await run("larger than SIZE", given.huge, replace(huge, size=10**9))
    if given.idle:
        await asyncio.sleep(given.idle)
        await run(f"after {given.idle:g} s of silence", "2", *mail(HEADER + b"Idle\r\n"))
        await run("the same again", "2", *mail(HEADER + b"Hello\r\n"))


async def trial(given: argparse.Namespace) -> int:
    host, _, port = given.next_hop.rpartition(":")
    recorder = Recorder(host.strip("[]"), int(port), given.show)
    server = await asyncio.start_server(recorder.accept, "127.0.0.1", 0)
    metrics = CountedMetrics()
    dialer = SmtpDialer("client.interop.test", contexts=TlsContexts(given.authorities), metrics=metrics)
    pool = ConnectionPool(dialer, SystemClock(), metrics)
    user, _, password = (given.auth or "").partition(":")
    endpoint = Endpoint(
        given.name,
        ipaddress.ip_address("127.0.0.1"),
        server.sockets[0].getsockname()[1],
        given.tls,
        LOOPBACK,
        protocol="lmtp" if given.lmtp else "smtp",
        implicit_tls=given.implicit,
        credentials=Credentials(user, password) if user else None,
        accept_invalid_certs=given.accept_invalid,
        messages_per_connection=10_000,
    )
    trials = Trials(pool, endpoint, recorder, given)
    steps: Sequence[Callable[[Trials], Awaitable[None]]] = [only_one if given.quick else all_of_them]
    for step in steps:
        await step(trials)
    await pool.close()
    server.close()
    await recorder.close()
    counted = ", ".join(f"{name} {count}" for name, count in sorted(metrics.counts.items()))
    sys.stdout.write(
        f"connections {recorder.connections}, spoke before the greeting {recorder.early}; {counted}\n"
    )
    return 1 if trials.wrong or (recorder.early and not given.implicit) else 0


async def only_one(trials: Trials) -> None:
    for _ in range(2):
        await trials.run("a message", trials.given.expect, *trials.mail(HEADER + b"Hello\r\n"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interop")
    parser.add_argument("next_hop", help="ADDRESS:PORT of the server")
    parser.add_argument(
        "--name", default="mx.hop.test", help="its name, for certificates (default mx.hop.test)"
    )
    parser.add_argument("--tls", choices=get_args(TlsMode), default="opportunistic")
    parser.add_argument("--implicit", action="store_true", help="TLS from the first octet on")
    parser.add_argument("--accept-invalid", action="store_true", help="accept_invalid_certs")
    parser.add_argument("--ca", help="PEM file with the authorities to trust, in place of the system's")
    parser.add_argument("--auth", help="USER:PASSWORD")
    parser.add_argument("--lmtp", action="store_true")
    parser.add_argument("--accepted", required=True, help="a recipient that is accepted")
    parser.add_argument("--also", help="another one")
    parser.add_argument("--refused", help="a recipient that is refused for good (5xx)")
    parser.add_argument("--deferred", help="a recipient that is deferred (4xx)")
    parser.add_argument(
        "--received", help="directory where the server puts messages, a file each; they are removed"
    )
    parser.add_argument(
        "--limit", type=int, default=25_000_000, help="octets from which on messages are too big"
    )
    parser.add_argument("--too-big", default="5", help="class of the answer to those (default 5)")
    parser.add_argument("--huge", default="5", help="class of the answer to one that says SIZE=1000000000")
    parser.add_argument(
        "--utf8", default="2", help="class of the answer to an internationalised address (2 or 5)"
    )
    parser.add_argument("--idle", type=float, default=0, help="seconds of silence before the last message")
    parser.add_argument("--quick", action="store_true", help="two messages and no more")
    parser.add_argument("--expect", default="2", help="with --quick: class of the answer (2, 4, 5)")
    parser.add_argument("--verbose", action="store_true", help="every reply")
    parser.add_argument("--show", action="store_true", help="the conversation, as far as it is in the clear")
    given = parser.parse_args()
    given.authorities = Path(given.ca).read_bytes() if given.ca else None
    return asyncio.run(trial(given))


if __name__ == "__main__":
    sys.exit(main())
