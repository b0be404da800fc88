"""The ingress is killed at every step of a message: what was promised is there, and what is there twice was
not promised.

A client that heard no 250 for its message sends it again to the next life of the ingress. In the end each
message has one job, and the object that it names. The exception is at-least-once by nature: the job was taken
and the ingress died before it could say so; then, and only then, there are two.
"""

from __future__ import annotations

import select
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from threading import Thread

import pytest

from tests.scenarios.ingress_process import WITHIN, Ingress, eventually, starting
from tests.scenarios.small_aws import SmallAws

MIB = 1_048_576
PART = 5 * MIB
LINE = b"x" * 78 + b"\r\n"
LARGE = LINE * (12 * MIB // len(LINE))
SHUT_DOWN = b"421 4.3.2 System is shutting down, closing the connection\r\n"


class Relay:
    """One ingress after the other, on the same AWS."""

    def __init__(self, aws: SmallAws, start: Callable[..., Ingress]) -> None:
        self.aws = aws
        self._start = start
        self._life: Ingress | None = None

    @property
    def life(self) -> Ingress:
        """The present one, begun if the last one has ended."""
        if self._life is None:
            self._life = self._start(**self.aws.environment, EMPATH_SHUTDOWN_GRACE="0.5")
        return self._life

    def kill(self) -> None:
        self.life.signal(signal.SIGKILL)
        assert self.life.ended() == -signal.SIGKILL
        self._life = None

    def end(self) -> int:
        """Exit code after SIGTERM."""
        self.life.signal(signal.SIGTERM)
        code = self.life.ended()
        self._life = None
        return code

    def until_storing(self, messages: int) -> None:
        """Until content of so many messages came in that has not ended."""

        def storing() -> str:
            text: str = self.life.ask("ready")[1]["checks"]["in_flight"]["text"]
            return text.partition("sessions, ")[2].split()[0]

        eventually(lambda: storing() == str(messages))


class Client:
    """A client that says what the test says, and hears what comes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WITHIN)
        self._replies = self._socket.makefile("rb")
        self._sending: Thread | None = None
        self.hear(b"220 ")
        self.say(b"EHLO client.example\r\n", b"250 ")

    def say(self, octets: bytes, *replies: bytes) -> None:
        self._socket.sendall(octets)
        for reply in replies:
            self.hear(reply)

    def hear(self, start: bytes = b"") -> bytes:
        """The last line of the next reply; empty where there is none any more."""
        line = b"----"
        with suppress(ConnectionError):
            while line[3:4] == b"-":
                line = self._replies.readline()
            assert line.startswith(start), line
            return line
        assert not start
        return b""

    def begin(self) -> None:
        """A transaction, up to its content."""
        self.say(b"MAIL FROM:<a@one.example>\r\n", b"250 ")
        self.say(b"RCPT TO:<b@two.example>\r\n", b"250 ")

    def send_in_background(self, octets: bytes) -> None:
        """More than the other end takes, perhaps; what it does not take is lost."""
        self._sending = Thread(target=self._send_what_is_taken, args=(octets,))
        self._sending.start()

    def _send_what_is_taken(self, octets: bytes) -> None:
        with suppress(OSError):
            self._socket.sendall(octets)

    def until_heard_by_its_kernel(self) -> None:
        assert self._socket.recv(1, socket.MSG_PEEK)

    @property
    def is_answered(self) -> bool:
        """Whether there is something to hear."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._sending is not None:
            self._sending.join()
        self._replies.close()
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with SmallAws.running() as aws, starting(tmp_path_factory.mktemp("ingress")) as start:
        yield Relay(aws, start)


@pytest.fixture
def relay(lives: Relay) -> Relay:
    """As it was left by the test before, with nothing stored."""
    aws = lives.aws
    for kept in (aws.objects, aws.uploads, aws.jobs):
        kept.clear()
    return lives


def sending(relay: Relay, stack: ExitStack, content: bytes) -> Client:
    """A client that has sent all of a message, as far as it was taken."""
    client = stack.enter_context(Client(relay.life.port))
    client.begin()
    client.say(b"DATA\r\n", b"354 ")
    client.send_in_background(content + b".\r\n")
    return client


def deliver(relay: Relay, *contents: bytes) -> None:
    """What clients do that heard no 250."""
    with ExitStack() as stack:
        for content in contents:
            assert sending(relay, stack, content).hear().startswith(b"250 ")


DATA = (b"DATA\r\n", b"354 ")
CHUNK = (b"BDAT %d\r\n%b" % (len(LINE), LINE), b"250 ")
NOTHING = b""
UNFINISHED = {
    "a line of DATA": [DATA, (LINE + b"half a li", NOTHING)],
    "the final dot": [DATA, (LINE + b".\r", NOTHING)],
    "between chunks": [CHUNK],
    "a chunk": [CHUNK, (b"BDAT 1000\r\n" + LINE, NOTHING)],
    "the last chunk": [CHUNK, (b"BDAT 1000 LAST\r\n" + LINE, NOTHING)],
}
"""Messages that are not whole: what is said, and how the answer to it begins."""


def test_killed_within_messages_it_has_taken_nothing_and_promised_nothing(relay: Relay) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(relay.life.port)) for _ in UNFINISHED]
        for client, said in zip(clients, UNFINISHED.values(), strict=True):
            client.begin()
            for octets, reply in said:
                client.say(octets, *([reply] if reply else []))
        relay.until_storing(len(clients))
        relay.kill()
        assert [client.hear() for client in clients] == [NOTHING] * len(clients)
    assert (relay.aws.stored(), relay.aws.jobs, relay.aws.uploads) == ([], [], {})
    deliver(relay, LINE)
    assert relay.aws.accepted() == relay.aws.stored() == [LINE]


def test_killed_within_a_large_message_it_leaves_parts_that_are_no_message(relay: Relay) -> None:
    """S3 removes them after a day: the bucket's AbortIncompleteMultipartUpload, see tests/infra."""
    with ExitStack() as stack:
        second_part = stack.enter_context(relay.aws.holding("UploadPart", passes=1))
        client = sending(relay, stack, LARGE)
        second_part.until_reached()
        relay.kill()
        assert client.hear() == NOTHING
    [left] = relay.aws.uploads.values()
    assert [len(part) for part in left.parts.values()] == [PART]
    assert (relay.aws.stored(), relay.aws.jobs) == ([], [])
    deliver(relay, LARGE)
    assert relay.aws.accepted() == relay.aws.stored() == [LARGE]
    assert list(relay.aws.uploads.values()) == [left]


@pytest.mark.parametrize("done", [False, True], ids=["requests are lost", "requests are done"])
def test_killed_between_s3_and_sqs_it_has_promised_nothing_that_is_not_there(
    relay: Relay, done: bool
) -> None:
    """`done`: AWS has done what it was asked for, and the ingress dies before the answer."""
    heard, job, put = b"heard\r\n", b"job\r\n", b"put\r\n"
    with ExitStack() as stack:
        lucky = sending(relay, stack, heard)
        lucky.until_heard_by_its_kernel()
        clients = []
        for content, operation in (
            (LARGE, "CompleteMultipartUpload"),
            (job, "SendMessage"),
            (put, "PutObject"),
        ):
            hold = stack.enter_context(relay.aws.holding(operation, after=done))
            clients.append(sending(relay, stack, content))
            hold.until_reached()
        relay.kill()
        # Sent is sent: nobody who heard 250 late has another copy.
        assert lucky.hear().startswith(b"250 ")
        assert [client.hear() for client in clients] == [NOTHING] * 3
    before = Counter([heard, job] if done else [heard])
    orphans = [LARGE, put] if done else [job]
    assert Counter(relay.aws.accepted()) == before
    assert Counter(relay.aws.stored()) == before + Counter(orphans)
    deliver(relay, LARGE, job, put)
    assert Counter(relay.aws.accepted()) == before + Counter([LARGE, job, put])
    assert len({job["message_id"] for job in relay.aws.jobs}) == len(relay.aws.jobs)


@pytest.mark.parametrize("done", [False, True], ids=["requests are lost", "requests are done"])
def test_of_twenty_clients_those_that_heard_250_have_a_job_each_and_the_others_get_one(
    relay: Relay, done: bool
) -> None:
    """Jobs of several clients share a request; whatever becomes of it, nobody hears a 250 that is untrue."""
    contents = [b"message %d\r\n" % number for number in range(20)]
    with ExitStack() as stack:
        hold = stack.enter_context(relay.aws.holding("SendMessage", after=done, passes=1))
        clients = [sending(relay, stack, content) for content in contents]
        hold.until_reached()
        eventually(lambda: any(client.is_answered for client in clients))
        eventually(lambda: len(relay.aws.stored()) == len(contents))
        relay.kill()
        replies = [client.hear() for client in clients]
    promised = [
        content for content, reply in zip(contents, replies, strict=True) if reply.startswith(b"250 ")
    ]
    assert 0 < len(promised) < len(contents)
    taken = Counter(relay.aws.accepted())
    assert set(taken.values()) == {1}
    assert set(promised) <= set(taken)
    again = set(contents) - set(promised)
    deliver(relay, *again)
    assert Counter(relay.aws.accepted()) == taken + Counter(again)


def test_sigterm_ends_messages_that_do_not_end_and_leaves_no_parts(relay: Relay) -> None:
    with ExitStack() as stack:
        slow = stack.enter_context(Client(relay.life.port))
        slow.begin()
        slow.say(b"DATA\r\n", b"354 ")
        slow.say(LINE)
        second_part = stack.enter_context(relay.aws.holding("UploadPart", passes=1))
        large = sending(relay, stack, LARGE)
        second_part.until_reached()
        assert relay.end() == 0
        assert slow.hear() == large.hear() == SHUT_DOWN
    assert (relay.aws.stored(), relay.aws.jobs, relay.aws.uploads) == ([], [], {})
