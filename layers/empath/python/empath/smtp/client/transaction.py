"""A client's mail transaction (RFC 5321 §3.3): octets of replies in, octets to send and outcomes out.

Ways to send, by what the next hop offers:

    PIPELINING and CHUNKING   MAIL RCPT.. BDAT LAST content      one flight, content up to BLOCK octets
                              MAIL RCPT.. | BDAT BDAT.. LAST     two, larger content in chunks
    PIPELINING                MAIL RCPT.. DATA | content dot     two flights (RFC 2920 §3.1)
    CHUNKING                  MAIL | RCPT | .. | BDAT LAST       one command at a time, up to CHUNK octets
    neither                   MAIL | RCPT | .. | DATA | content dot

Who hears what: a refused recipient its own reply; a refused MAIL, DATA or BDAT, and the reply to the
message, everybody whom no reply of their own settled; a 421 or a lost connection likewise, as a deferral.
Once the last octet may have left and somebody may still be accepted, a missing reply is ambiguous.

A flight of MAIL to BDAT LAST is ambiguous as a whole when it is lost: that is its price. So is the
content that goes out although its recipients are refused, hence the bound.

A reply that nobody waits for makes every answer of its flight doubtful, because replies are matched by
their order alone: only an accepted message is believed then. (A next hop that refuses BDAT without taking
its octets reads content as commands, and shows it in this way.)

Content with octets above 127 is sent as it is to a next hop without 8BITMIME, as Postfix and Exim do:
no next hop in use minds, and a rewritten message breaks its signatures (RFC 6152 §3 would have it
converted or returned).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from empath.domain.errors import Refusal
from empath.domain.outcome import Deferred, RecipientOutcome, outcome_of_refusal, outcome_of_reply
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.smtp.client import verdicts
from empath.smtp.client.answers import Answers
from empath.smtp.client.breach import Breach, breach_at
from empath.smtp.client.chunks import Chunks
from empath.smtp.client.envelope import Forward, OutgoingMail, asks_for_reports, mail_command, rcpt_command
from empath.smtp.client.offer import Offer
from empath.smtp.client.reply_reader import ReplyReader
from empath.smtp.client.state import TRANSITIONS, Phase, Stage, Step, Want
from empath.smtp.client.stuffing import DotStuffer

BLOCK = 65_536
"""Octets of content that are given at once: what asyncio buffers before it asks to wait. A message below
that goes out with its envelope; most mail is, and 64 KiB are little to waste."""

CHUNK = 16 * BLOCK
"""Octets of a BDAT chunk. Each costs the next hop a reply, and us the memory to know its size beforehand."""


@dataclass(frozen=True, slots=True)
class Due:
    stage: Stage
    forward: Forward | None = None


class MailTransaction:
    """One transaction; its owner does what `wants` says until there is nothing more."""

    def __init__(
        self,
        mail: OutgoingMail,
        offer: Offer,
        reader: ReplyReader | None = None,
        *,
        reset: bool = False,
        chunk: int = CHUNK,
    ) -> None:
        """`reader` is the connection's; with `reset` RSET goes before MAIL."""
        self._answers = Answers(mail.recipients)
        self.outcomes: dict[str, RecipientOutcome] = self._answers.outcomes
        self.is_ambiguous = False
        self.needs_reset = reset
        """Whether the session has to be reset before another transaction."""
        self.breach: Breach | None = None
        self.heard = 0
        """Replies so far."""
        self.is_answered = False
        """Whether MAIL was answered, by more than 421."""
        self.is_deferred_at_mail = False
        self._mail, self._offer = mail, offer
        self._reader = reader or ReplyReader()
        self._phase = Phase.ENVELOPE
        self._pipelines = "PIPELINING" in offer
        self._has_chunks = "CHUNKING" in offer and (self._pipelines or mail.size < chunk)
        self._is_one_flight = self._pipelines and self._has_chunks and mail.size < BLOCK
        self._output: list[bytes] = []
        self._commands: deque[tuple[Due, bytes]] = deque()
        self._due: deque[Due] = deque()
        self._stuffer = DotStuffer()
        self._chunks = Chunks(chunk)
        self._is_complete = False
        self._prepare()

    # What the owner asks

    @property
    def wants(self) -> Want:
        if self._phase in (Phase.OVER, Phase.BROKEN):
            return Want.NOTHING
        if self._phase is Phase.ENVELOPE and self._is_one_flight:
            return Want.CONTENT
        if self._phase is Phase.CONTENT and (self._pipelines or not self._has_chunks or not self._due):
            return Want.CONTENT
        return Want.REPLY

    @property
    def waits_for(self) -> Stage:
        """The next reply that is due."""
        return self._due[0].stage if self._due else Stage.MESSAGE

    @property
    def is_broken(self) -> bool:
        """Whether the session is of no more use."""
        return self._phase is Phase.BROKEN

    @property
    def is_settled(self) -> bool:
        """Whether everybody has an outcome already."""
        return self._answers.is_settled

    @property
    def used(self) -> frozenset[str]:
        """The extensions that this transaction relies on."""
        known = {
            "PIPELINING": self._pipelines,
            "CHUNKING": self._has_chunks,
            "DSN": "DSN" in self._offer and asks_for_reports(self._mail),
        }
        return frozenset(keyword for keyword, is_used in known.items() if is_used)

    def take_output(self) -> bytes:
        """What is to be sent now; the end of a flight when a reply is wanted next."""
        octets = b"".join(self._output)
        if octets:
            self._output.clear()
            self._answers.begin_flight()
        return octets

    # What the owner tells

    def give_content(self, block: bytes, *, last: bool) -> None:
        """The next octets of the content, while they are wanted; all blocks but the last hold BLOCK."""
        if self._phase is Phase.ENVELOPE:  # not `last` when it is larger than it was said to be
            self._is_one_flight = False
            self._flush_envelope()
            self._gather(block, last=last)
        elif self._has_chunks:
            self._gather(block, last=last)
        else:
            self._output.append(self._stuffer.feed(block))
            if last:
                self._output.append(self._stuffer.end())
                self._complete()

    def receive(self, octets: bytes) -> None:
        """What the next hop sent, in any pieces; also what it sent after all was over."""
        for reply in self._reader.feed(octets):
            self.heard += 1
            self._hear(reply)
        if self._reader.is_broken and self._phase is not Phase.BROKEN:
            self._hear_nonsense()

    def fail(self, refusal: Refusal, *, by_next_hop: bool = True) -> None:
        """No more is heard: the connection is lost or time is up; `by_next_hop` unless only ours was."""
        if by_next_hop and self._due and self._phase is not Phase.GIVEN_UP:
            self._blame(self._due[0].stage)
        if self._phase is Phase.FINAL and not self.is_settled:
            self.is_ambiguous = True
        self._answers.settle_rest(outcome_of_refusal(refusal))
        self._advance(Step.BREAK)

    # The envelope

    def _prepare(self) -> None:
        mail, offer = self._mail, self._offer
        self._answers.settle_for_sure(verdicts.refused_here(mail, offer))
        forwards = [forward for forward in mail.recipients if forward.address not in self.outcomes]
        if not forwards:
            self._phase = Phase.OVER
            return
        if self.needs_reset:
            self._commands.append((Due(Stage.RSET), b"RSET\r\n"))
        self._commands.append((Due(Stage.MAIL), mail_command(mail, offer)))
        for forward in forwards:
            self._commands.append((Due(Stage.RCPT, forward), rcpt_command(forward, offer)))
        if not self._has_chunks:
            self._commands.append((Due(Stage.DATA), b"DATA\r\n"))
        if not self._is_one_flight:
            self._flush_envelope()

    def _flush_envelope(self) -> None:
        """Say what may be said now: all of it, or the next command when the last one is answered."""
        while self._commands and (self._pipelines or not self._due):
            due, line = self._commands.popleft()
            self._say(due, line)

    # Content

    def _gather(self, block: bytes, *, last: bool) -> None:
        """Say BDAT as soon as a chunk is full, or the content at its end."""
        chunk = self._chunks.add(block, last=last, may_go=self._phase is Phase.CONTENT)
        if chunk is not None:
            line, content = chunk
            self._say(Due(Stage.MESSAGE if last else Stage.CHUNK), line)
            self._output += content
        if last:
            self._complete()

    def _complete(self) -> None:
        self._is_complete = True
        self._advance(Step.COMPLETE)

    def _begin_content(self) -> None:
        self._advance(Step.CONTENT)
        if not self._has_chunks:
            self._due.append(Due(Stage.MESSAGE))  # it may come early

    # Replies

    def _hear(self, reply: Reply) -> None:
        if self._phase is Phase.BROKEN:
            return
        if reply.code == 421:  # the next hop hangs up, whatever the command was (RFC 5321 §3.8)
            self._answers.settle_rest(Deferred(reply))
            self._advance(Step.BREAK)
        elif self._output or not self._due:
            self._hear_nonsense(reply.code)
        else:
            due = self._due.popleft()
            _HEARERS[due.stage](self, due, reply)
            self._go_on()

    def _go_on(self) -> None:
        if self._phase is Phase.ENVELOPE:
            self._flush_envelope()
            if not self._due and self._has_chunks:
                self._begin_content()
        elif self._phase is Phase.GIVEN_UP and not self._due:
            self._advance(Step.END)

    def _hear_rset(self, due: Due, reply: Reply) -> None:
        if _is_ok(reply):
            self.needs_reset = False
        else:
            self._break(Deferred(verdicts.out_of_place(reply), Reason.PROTOCOL_ERROR))

    def _hear_mail(self, due: Due, reply: Reply) -> None:
        self.is_answered = True
        if _is_ok(reply):
            self.needs_reset = True
            return
        self.is_deferred_at_mail = reply.is_transient
        self._blame(Stage.MAIL, reply.code)
        self._give_up(reply)

    def _hear_rcpt(self, due: Due, reply: Reply) -> None:
        forward = due.forward
        if forward is None:
            raise AssertionError("unreachable: RCPT is about somebody")
        if _is_ok(reply):
            self._answers.accepted.append(forward)
        if _is_ok(reply) or self._phase is Phase.GIVEN_UP:
            return
        self._blame(Stage.RCPT, reply.code)
        if self._answers.accepted and reply.code == 552 and str(reply.enhanced) in {"None", "5.5.3"}:
            # "Too many recipients" of old servers, which means later, not never (RFC 5321 §4.5.3.1.10).
            self._answers.settle(forward.address, Deferred(reply))
        else:
            self._answers.settle(forward.address, verdicts.outcome_of_negative(reply))
        if self.is_settled:
            self._give_up(None)

    def _hear_data(self, due: Due, reply: Reply) -> None:
        if self._phase is Phase.GIVEN_UP:
            self._hear_needless_data(reply)
        elif reply.code == 354:
            self._begin_content()
        else:
            self._blame(Stage.DATA, reply.code)
            self._give_up(reply)

    def _hear_needless_data(self, reply: Reply) -> None:
        """RFC 2920 §3.1: 354 may come although nobody was accepted; a lone dot ends it, and its reply
        means nothing. Where MAIL was refused and a recipient was not, even that would be a message."""
        if reply.code == 354 and not self._answers.accepted:
            self._say(Due(Stage.MESSAGE), b".\r\n")
        elif reply.is_positive:
            self._advance(Step.BREAK)

    def _hear_chunk(self, due: Due, reply: Reply) -> None:
        if self._phase is Phase.GIVEN_UP or _is_ok(reply):
            return
        self._blame(Stage.CHUNK, reply.code)
        self._give_up(reply)

    def _hear_message(self, due: Due, reply: Reply) -> None:
        if self._phase is Phase.GIVEN_UP:
            if _is_ok(reply):
                self.needs_reset = False
                if self._is_complete:  # and yet nobody was accepted: the replies do not fit together
                    self.is_ambiguous = True
                    self._hear_nonsense()
        elif self._phase is Phase.CONTENT:  # an answer before the end can only be a refusal
            self._break(verdicts.outcome_of_negative(reply))
        else:
            self._hear_final(reply)

    def _hear_final(self, reply: Reply) -> None:
        self.is_ambiguous = 300 <= reply.code < 400  # no answer to a message at all
        self._blame(Stage.MESSAGE, reply.code)
        self._answers.settle_rest(outcome_of_reply(reply))
        if self.is_ambiguous:
            self._advance(Step.BREAK)
            return
        # After the dot the transaction is over in any case; after a refused chunk that is disputed.
        self.needs_reset = self._has_chunks and not _is_ok(reply)
        self._advance(Step.END)

    def _hear_nonsense(self, code: int | None = None) -> None:
        """A reply too many (`code`), or no reply: what this flight was told may have meant otherwise."""
        if self._phase is not Phase.OVER or not self._answers.is_sent:
            refusal = verdicts.unreadable(self.waits_for.value)
            # Of the replies in doubt one may accept the message, unless it was heard and they all refuse.
            was_heard = self._phase is not Phase.FINAL and (code is None or code >= 400)
            if self._is_complete and not was_heard:
                self.is_ambiguous = True
            self._answers.doubt_this_flight()
            if self._is_complete and code is not None:
                self._blame(Stage.CHUNK, 500)  # content that was read as commands
            elif self._due:
                self._blame(self._due[0].stage)
            self._answers.settle_rest(outcome_of_refusal(refusal))
        self._advance(Step.BREAK)

    # Ends

    def _give_up(self, reply: Reply | None) -> None:
        """Nobody is to be had any more: by `reply`, or each by their own."""
        if reply is not None:
            self._answers.settle_rest(verdicts.outcome_of_negative(reply))
            if reply.is_positive:  # nobody knows what it waits for, or does with what it got
                self.is_ambiguous = self._is_complete
                self._advance(Step.BREAK)
                return
        self._commands.clear()
        self._advance(Step.GIVE_UP)

    def _break(self, outcome: RecipientOutcome) -> None:
        self._answers.settle_rest(outcome)
        self._advance(Step.BREAK)

    def _blame(self, stage: Stage, code: int | None = None) -> None:
        """The first breach is the one that counts; what follows may come of it."""
        if self.breach is None:
            self.breach = breach_at(stage, code, self.used, was_complete=self._is_complete)

    def _say(self, due: Due, line: bytes) -> None:
        self._due.append(due)
        self._output.append(line)

    def _advance(self, step: Step) -> None:
        self._phase = TRANSITIONS[self._phase, step]


def _is_ok(reply: Reply) -> bool:
    return 200 <= reply.code < 300


_HEARERS: Mapping[Stage, Callable[[MailTransaction, Due, Reply], None]] = {
    Stage.RSET: MailTransaction._hear_rset,
    Stage.MAIL: MailTransaction._hear_mail,
    Stage.RCPT: MailTransaction._hear_rcpt,
    Stage.DATA: MailTransaction._hear_data,
    Stage.CHUNK: MailTransaction._hear_chunk,
    Stage.MESSAGE: MailTransaction._hear_message,
}
