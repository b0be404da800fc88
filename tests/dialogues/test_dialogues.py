"""Every dialogue in this folder, against the core and over a real socket. README.md has the format."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from empath.domain.envelope import Envelope
from empath.domain.errors import QueueTrouble, SpoolTrouble
from empath.domain.user import User
from empath.ingress import replies
from empath.ingress.header_section import HeaderReader
from empath.ingress.listener import serve
from empath.ingress.relay_policy import RelayPolicy
from empath.ingress.settings import LOOPBACK, IngressSettings, PortKind
from empath.ingress.tls import FixedCertificate
from empath.pipeline.accept import Acceptance
from empath.pipeline.jobs import AcceptedJob, decode
from empath.ports import QueueName
from empath.smtp import events
from empath.smtp.dsn_parameters import DSN
from empath.smtp.extensions import AUTH, STANDARD, STARTTLS, Offer
from empath.smtp.limits import Limits
from empath.smtp.replies import AUTH_FAILED
from empath.smtp.server import ServerSession
from empath.testing.certificates import server_context
from empath.testing.clock import START, ManualClock, SequentialIds
from empath.testing.faults import Faults
from empath.testing.memory_queue import MemoryJobQueue
from empath.testing.memory_spool import MemorySpool
from empath.testing.metrics import CountedMetrics

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.txt"))
HOSTNAME = "mx.example"
CLOSED = "(closed)"
BOB = User(name="bob", domains=("one.example",), created_at=START)


async def knows_bob(user: str, password: str) -> User | None:
    return BOB if (user, password) == ("bob", "secret") else None


@dataclass
class Turn:
    """What the client sends, and what it then hears."""

    sent: bytes = b""
    heard: list[str] = field(default_factory=list)
    then_tls: bool = False


@dataclass
class Dialogue:
    settings: dict[str, str] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=lambda: [Turn()])
    facts: list[tuple[str, str]] = field(default_factory=list)

    def ingress_settings(self) -> IngressSettings:
        numbers = {name: int(value) for name, value in self.settings.items() if name.startswith("max_")}
        networks = () if self.settings.get("relay") == "no" else LOOPBACK
        domains = tuple(filter(None, [self.settings.get("relay_domain")]))
        tls = FixedCertificate(server_context(HOSTNAME)) if self.settings.get("tls") == "yes" else None
        return IngressSettings(
            port=None if self.port.is_submission else 0,
            submission_port=0 if self.port.is_submission else None,
            hostname=HOSTNAME,
            networks=networks,
            relay_domains=domains,
            tls=tls,
            authenticator=knows_bob if self.settings.get("auth") == "yes" else None,
            **numbers,  # type: ignore[arg-type]
        )

    @property
    def port(self) -> PortKind:
        return PortKind(self.settings.get("port", "relay"))


def _raw(text: str) -> bytes:
    repeated = re.sub(r"\{(.+?)\*(\d+)\}", lambda match: match[1] * int(match[2]), text)
    return repeated.encode("latin-1").decode("unicode_escape").encode("latin-1")


def read_dialogue(path: Path) -> Dialogue:
    dialogue = Dialogue()
    for line in path.read_text("utf-8").splitlines():
        mark, _, rest = line.partition(" ")
        turn = dialogue.turns[-1]
        if mark in {"C:", "C!", "C+"}:
            if turn.heard or (turn.sent and mark == "C!"):
                dialogue.turns.append(turn := Turn())
            turn.sent += _raw(rest) + (b"\r\n" if mark == "C:" else b"")
        elif mark == "S:":
            turn.heard.append(rest)
        elif mark == "tls":
            turn.then_tls = True
            dialogue.turns.append(Turn())
        elif mark == "closed":
            turn.heard.append(CLOSED)
        elif mark == "set":
            name, _, value = rest.partition("=")
            dialogue.settings[name] = value
        elif mark in {"accepted", "content", "envelope", "dsn"}:
            dialogue.facts.append((mark, rest))
        elif line and mark != "#":
            raise ValueError(f"{path}: {line}")
    return dialogue


@dataclass
class Accepted:
    envelope: str
    content: bytes
    dsn: str


def check_heard(turn: Turn, heard: list[str]) -> None:
    patterns = [re.escape(line).replace(r"\{id\}", "[0-9A-Z]{26}") for line in turn.heard]
    assert len(patterns) == len(heard), heard
    for line, pattern in zip(heard, patterns, strict=True):
        assert re.fullmatch(pattern, line), f"{line!r} is not {pattern!r}"


def check_facts(dialogue: Dialogue, accepted: list[Accepted]) -> None:
    for fact, value in dialogue.facts:
        match fact:
            case "accepted":
                assert len(accepted) == int(value)
            case "content":
                assert accepted[-1].content == _raw(value)
            case "envelope":
                assert accepted[-1].envelope == value
            case "dsn":
                assert accepted[-1].dsn == value


def _envelope_text(reverse_path: object, recipients: object) -> str:
    return f"{reverse_path or '<>'} -> {recipients}"


def _dsn_text(mail: Envelope | AcceptedJob) -> str:
    """What was asked about reports, in the words of MAIL and RCPT."""
    told = [f"{name}={value}" for name, value in (("RET", mail.ret), ("ENVID", mail.envid)) if value]
    for recipient in mail.recipients:
        notify = ",".join(recipient.notify or ())
        asked = [
            f"{name}={value}" for name, value in (("NOTIFY", notify), ("ORCPT", recipient.orcpt)) if value
        ]
        told.append(" ".join([f"<{recipient.mailbox}>", *asked]))
    return " ".join(told)


class CoreClient:
    """The core with an owner of few words: the listener's decisions, made at once."""

    def __init__(self, dialogue: Dialogue, pieces: Callable[[bytes], Iterator[bytes]]) -> None:
        self.settings = dialogue.ingress_settings()
        self.is_down = {"down"} & set(dialogue.settings.values())
        limits = Limits(
            max_size=self.settings.max_size,
            max_recipients=self.settings.max_recipients,
            max_messages=self.settings.max_messages,
            max_errors=self.settings.max_errors,
        )
        extensions = (*STANDARD, DSN, STARTTLS) if self.settings.tls else (*STANDARD, DSN)
        extensions = (*extensions, AUTH) if self.settings.authenticator else extensions
        offer, must_authenticate = Offer(extensions, limits), dialogue.port.is_submission
        self.session = ServerSession(HOSTNAME, offer, limits, must_authenticate=must_authenticate)
        self.pieces = pieces
        self.accepted: list[Accepted] = []
        self.session.greet()
        self.ended = False

    def say(self, octets: bytes) -> list[str]:
        for piece in self.pieces(octets):
            self.session.receive(piece)
            while (event := self.session.next_event()) is not None:
                self.handle(event)
        lines = self.session.replies().decode("ascii").splitlines()
        return [*lines, CLOSED] if self.ended else lines

    def handle(self, event: events.Event) -> None:
        policy = RelayPolicy(self.settings.networks, self.settings.relay_domains)
        match event:
            case events.Authenticate():
                known = (event.user, event.password) == ("bob", "secret")
                self.session.accept() if known else self.session.refuse(AUTH_FAILED)
            case events.MailFrom():
                may = self.session.user is None or BOB.may_send_from(event.reverse_path)
                self.session.accept() if may else self.session.refuse(replies.NOT_YOUR_ADDRESS)
            case events.RcptTo():
                trusted = bool(self.settings.networks) or self.session.user is not None
                refusal = policy.refusal(event.recipient.mailbox, may_relay=trusted)
                self.session.refuse(refusal) if refusal else self.session.accept()
            case events.MessageBegins():
                self.envelope = event.envelope
                self.content = b""
                self.session.accept()
            case events.ContentChunk():
                self.content += event.octets
            case events.MessageEnds():
                assert event.size == len(self.content)
                self.end_message()
            case events.SessionEnds():
                self.ended = True
            case events.Helo() | events.StartTls():
                self.session.accept()

    def end_message(self) -> None:
        limits = self.settings.header_limits
        header = HeaderReader(limits.max_octets)
        header.feed(self.content)
        refusal = header.end().refusal(limits, self.settings.max_hops)
        if self.is_down:
            self.session.refuse(replies.TROUBLE)
        elif refusal is not None:
            self.session.refuse(refusal)
        else:
            recipients = ", ".join(str(recipient.mailbox) for recipient in self.envelope.recipients)
            text = _envelope_text(self.envelope.reverse_path, recipients)
            self.accepted.append(Accepted(text, self.content, _dsn_text(self.envelope)))
            self.session.accept(replies.queued("0" * 26))


def whole(octets: bytes) -> Iterator[bytes]:
    yield octets


def one_by_one(octets: bytes) -> Iterator[bytes]:
    yield from (octets[i : i + 1] for i in range(len(octets)))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("pieces", [whole, one_by_one])
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_with_the_core(path: Path, pieces: Callable[[bytes], Iterator[bytes]]) -> None:
    dialogue = read_dialogue(path)
    client = CoreClient(dialogue, pieces)
    for turn in dialogue.turns:
        check_heard(turn, client.say(turn.sent))
        if turn.then_tls:
            client.session.tls_started()
    check_facts(dialogue, client.accepted)


@asynccontextmanager
async def listening(dialogue: Dialogue) -> AsyncIterator[tuple[int, MemorySpool, MemoryJobQueue]]:
    clock, faults, spool = ManualClock(auto=True), Faults(), MemorySpool()
    queue = MemoryJobQueue(clock)
    if dialogue.settings.get("spool") == "down":
        faults.fail("spool.put", times=None)
    if dialogue.settings.get("queue") == "down":
        faults.fail("queue.send", times=None)
    acceptance = Acceptance(
        faults.wrap("spool", spool, SpoolTrouble), faults.wrap("queue", queue, QueueTrouble)
    )
    settings = dialogue.ingress_settings()
    listener = await serve(settings, acceptance, clock, SequentialIds(), CountedMetrics())
    try:
        yield listener.ports[dialogue.port], spool, queue
    finally:
        await listener.close(grace=0)


def _client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("path", FILES, ids=name_of)
async def test_over_a_socket(path: Path) -> None:
    dialogue = read_dialogue(path)
    async with listening(dialogue) as (port, spool, queue):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in dialogue.turns:
            writer.write(turn.sent)
            async with asyncio.timeout(5):
                heard = [(await reader.readline()).decode("ascii").rstrip("\r\n") for _ in turn.heard]
            if turn.heard and turn.heard[-1] == CLOSED:
                assert heard[-1] == ""
                heard[-1] = CLOSED
            check_heard(turn, heard)
            if turn.then_tls:
                await writer.start_tls(_client_context())
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    jobs = [decode(AcceptedJob, job.body) for job in queue.pending(QueueName.ACCEPTED)]
    check_facts(
        dialogue,
        [
            Accepted(
                _envelope_text(job.reverse_path, ", ".join(str(each.mailbox) for each in job.recipients)),
                spool.objects[job.spool_key],
                _dsn_text(job),
            )
            for job in jobs
        ],
    )
