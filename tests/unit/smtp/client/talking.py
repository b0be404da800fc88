"""What the client core's tests share: mail for Ann and Bob, and a core that is driven by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from empath.domain.outcome import Deferred, Failed, Held, RecipientOutcome, Sent
from empath.smtp.client import BLOCK, Forward, MailTransaction, Offer, OutgoingMail, Want
from empath.smtp.client.verdicts import lost

ANN, BOB = "ann@example.test", "bob@example.test"
CONTENT = b"Subject: hello\r\n\r\n.Hello\r\n"

OFFERS = {
    "nothing": Offer(),
    "pipelining": Offer(frozenset({"PIPELINING"})),
    "chunking": Offer(frozenset({"CHUNKING"})),
    "both": Offer(frozenset({"PIPELINING", "CHUNKING"})),
}


def mail(
    recipients: Sequence[str | Forward] = (ANN, BOB), size: int = len(CONTENT), **more: object
) -> OutgoingMail:
    forwards = [Forward(to, to if to.isascii() else None) if isinstance(to, str) else to for to in recipients]
    return OutgoingMail("sender@example.test", "sender@example.test", forwards, size, **more)  # type: ignore[arg-type]


@dataclass
class Talk:
    """A core with its content; `flights` is what it sent between two times that it waited."""

    core: MailTransaction
    content: bytes = CONTENT
    flights: list[bytes] = field(default_factory=list)
    _blocks: Iterator[bytes] | None = None

    def hear(self, *replies: str | bytes) -> Talk:
        """One batch of replies for each flight that the core sends; then the connection is lost, if it
        still waits."""
        batches = iter(replies)
        self.send()
        while self.core.wants is not Want.NOTHING:
            batch = next(batches, None)
            if batch is None:
                self.core.fail(lost(self.core.waits_for.value))
            else:
                self.core.receive(_octets(batch))
            self.send()
        assert next(batches, None) is None, "the core did not wait for these"
        return self

    def send(self) -> None:
        sent = self.core.take_output()
        while self.core.wants is Want.CONTENT:
            block = self._next_block()
            self.core.give_content(block, last=len(block) < BLOCK)
            sent += self.core.take_output()
        if sent:
            self.flights.append(sent)

    def _next_block(self) -> bytes:
        if self._blocks is None:
            ends = range(0, len(self.content) + 1, BLOCK)
            self._blocks = (self.content[begin : begin + BLOCK] for begin in ends)
        return next(self._blocks)

    @property
    def shorts(self) -> list[str]:
        return [short(self.core.outcomes[forward]) for forward in (ANN, BOB)]

    @property
    def lines(self) -> list[list[str]]:
        """The flights as lines without their ends."""
        return [flight.decode().split("\r\n")[:-1] for flight in self.flights]


def _octets(batch: str | bytes) -> bytes:
    if isinstance(batch, bytes):
        return batch
    return "".join(f"{line.strip()}\r\n" for line in batch.split(";")).encode()


def talk(offer: Offer | str = "both", content: bytes = CONTENT, reset: bool = False, **more: object) -> Talk:
    known = OFFERS[offer] if isinstance(offer, str) else offer
    envelope = mail(size=len(content), **more)  # type: ignore[arg-type]
    return Talk(MailTransaction(envelope, known, reset=reset, chunk=BLOCK), content)


def short(outcome: RecipientOutcome) -> str:
    """`sent 250`, `failed 550`, `deferred 451 timeout`."""
    match outcome:
        case Sent(reply):
            return f"sent {reply.code}"
        case Deferred(reply, reason):
            return f"deferred {reply.code} {reason}"
        case Failed(reply, reason):
            return f"failed {reply.code} {reason}"
        case Held(reply, reason):
            return f"held {reply.code} {reason}"
