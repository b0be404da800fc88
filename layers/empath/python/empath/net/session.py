"""One negotiated session with a next hop: transactions run on it one after the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from empath.domain.errors import Refusal, TransientRefusal
from empath.domain.reason import Reason
from empath.net.standing import Standing
from empath.net.stream import MailStream
from empath.net.timeouts import Deadline, Timeouts
from empath.ports import Transaction
from empath.smtp.client import BLOCK, MailTransaction, Offer, OutgoingMail, ReplyReader, Stage, Want
from empath.smtp.client.offer import domain_of
from empath.smtp.client.verdicts import lost, timed_out, unreadable


class ClientSession:
    """`deadline` is whenever the present use of it must end; whoever uses it again sets it anew."""

    def __init__(
        self,
        stream: MailStream,
        offer: Offer,
        timeouts: Timeouts,
        deadline: Deadline,
        tls: str | None,
        kind: type[MailTransaction] = MailTransaction,
    ) -> None:
        self.offer = offer
        self.tls = tls
        self.deadline = deadline
        self.tls_failure: Refusal | None = None
        """Why it is in the clear, where TLS was tried before."""
        self._kind = kind
        self._stream = stream
        self._timeouts = timeouts
        self._reader = ReplyReader()
        self._needs_reset = False
        self._messages = 0
        self._domains: set[str] = set()
        self._standing = Standing()

    @property
    def stands(self) -> bool:
        """Whether the connection is there and nothing came that nobody asked for."""
        return self._stream.is_open and not self._stream.has_unread and not self._reader.is_amid_a_reply

    @property
    def was_used(self) -> bool:
        """Whether a transaction was begun on it."""
        return self._messages > 0

    @property
    def is_welcome(self) -> bool:
        """Whether nothing that the next hop answered makes another transaction on it pointless."""
        return self._standing.is_good

    @property
    def has_room(self) -> bool:
        """Whether the next hop's MAILMAX allows another transaction."""
        return self.offer.max_messages is None or self._messages < self.offer.max_messages

    def takes_domains(self, domains: set[str]) -> bool:
        """Whether the next hop's RCPTDOMAINMAX allows recipients of these domains."""
        most = self.offer.max_domains
        return most is None or not self._domains or len(self._domains | domains) <= most

    async def run(self, mail: OutgoingMail, transaction: Transaction) -> MailTransaction:
        """One mail transaction to its end; raises what the content raises, and then no message was sent."""
        core = self._kind(mail, self.offer, self._reader, reset=self._needs_reset)
        refusal = None if core.wants is Want.NOTHING else self._unfit()
        if refusal is not None:
            core.fail(refusal, by_next_hop=False)
            self.abort()
            return core
        run = _Run(core, self._stream, self._timeouts, self.deadline, transaction.before_commit)
        try:
            async with aclosing(blocks_of(transaction)) as blocks:
                await run.to_the_end(blocks)
        except BaseException:
            if run.has_begun:
                self.abort()
            raise
        finally:
            if run.has_begun:
                self._count(mail)
        self._needs_reset = core.needs_reset
        self._standing.note(core)
        if core.is_broken:
            self.abort()
        return core

    def _count(self, mail: OutgoingMail) -> None:
        self._messages += 1
        if self.offer.max_domains is not None:
            self._domains.update(domain_of(forward.address) for forward in mail.recipients)

    async def reset(self) -> bool:
        """Ask for a sign of life by RSET; whether one came and the session may be used."""
        if not self.stands:
            return False
        self._needs_reset = not await self._command(b"RSET\r\n", self._timeouts.reset, 250)
        if self._needs_reset:
            self.abort()
        return not self._needs_reset

    async def quit(self) -> None:
        """End the session as RFC 5321 §4.1.1.10 wants it, if it still stands; never raises."""
        try:
            if self.stands:
                await self._command(b"QUIT\r\n", self._timeouts.quit, 221)
        finally:
            self.abort()

    def abort(self) -> None:
        self._stream.abort()

    async def _command(self, line: bytes, timeout: float, code: int) -> bool:
        """Whether the reply has this code."""
        self._stream.write(line)
        end = Deadline(self.deadline.cut(timeout))
        while await self._stream.wait(end.remaining):
            octets = self._stream.read()
            replies = self._reader.feed(octets)
            if replies:
                return len(replies) == 1 and replies[0].code == code
            if not octets or self._reader.is_broken:
                return False
        return False

    def _unfit(self) -> Refusal | None:
        """Why no transaction can begin. What came unasked would be taken for its first reply."""
        octets = self._stream.read()
        if octets or self._reader.is_amid_a_reply:
            said = self._reader.feed(octets)
            if said and said[0].code == 421:
                return TransientRefusal(said[0], Reason.NEXT_HOP_REPLY)
            return unreadable(Stage.MAIL.value)
        return None if self._stream.is_open else lost(Stage.MAIL.value)


class _Run:
    """One transaction between its core, which knows the protocol, and a stream and a clock."""

    def __init__(
        self,
        core: MailTransaction,
        stream: MailStream,
        timeouts: Timeouts,
        deadline: Deadline,
        before_commit: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._core, self._stream, self._timeouts, self._deadline = core, stream, timeouts, deadline
        self._before_commit = before_commit
        self.has_begun = False

    async def to_the_end(self, blocks: AsyncGenerator[bytes, None]) -> None:
        core, stream = self._core, self._stream
        while (want := core.wants) is not Want.NOTHING:
            if want is Want.CONTENT:
                await self._give_content(await anext(blocks))
            elif not self.has_begun:
                self._send()
            else:
                await self._hear()
            if stream.has_unread:
                core.receive(stream.read())
            self._send()

    async def _give_content(self, block: bytes) -> None:
        core, stream = self._core, self._stream
        if stream.has_unread:  # before more goes out: a refusal may have come
            core.receive(stream.read())
            if core.wants is not Want.CONTENT:
                return
        is_last = len(block) < BLOCK
        if is_last and self._before_commit is not None:
            await self._before_commit()
            if stream.has_unread:
                core.receive(stream.read())
                if core.wants is not Want.CONTENT:
                    return
        if is_last and not self._deadline.leaves_time_for_a_reply:
            core.fail(timed_out("the end of the content"), by_next_hop=False)
        elif not stream.is_open:
            core.fail(lost("the end of the content"))
        else:
            core.give_content(block, last=is_last)
            self._send()
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        core, stream = self._core, self._stream
        end = Deadline(self._deadline.cut(self._timeouts.block))
        while stream.is_full and core.wants is Want.CONTENT:
            if not await stream.wait(end.remaining):
                core.fail(timed_out("room for more content"), by_next_hop=False)
            elif stream.has_unread:
                core.receive(stream.read())
                self._send()
            elif not stream.is_open:
                core.fail(lost("room for more content"))

    async def _hear(self) -> None:
        """Wait for one more reply, as long as its command may take."""
        core, stream = self._core, self._stream
        stage, heard = core.waits_for, core.heard
        timeout = self._timeouts.reset if core.is_settled else self._timeout_of(stage)
        is_theirs = timeout <= self._deadline.remaining
        end = Deadline(self._deadline.cut(timeout))
        while core.heard == heard and core.wants is Want.REPLY:
            if not await stream.wait(end.remaining):
                core.fail(timed_out(stage.value), by_next_hop=is_theirs)
            elif stream.has_unread:
                core.receive(stream.read())
            elif not stream.is_open:
                core.fail(lost(stage.value))

    def _send(self) -> None:
        octets = self._core.take_output()
        if octets:
            self.has_begun = True
            self._stream.write(octets)

    def _timeout_of(self, stage: Stage) -> float:
        timeouts = self._timeouts
        return {
            Stage.RSET: timeouts.reset,
            Stage.MAIL: timeouts.mail,
            Stage.RCPT: timeouts.rcpt,
            Stage.DATA: timeouts.data,
            Stage.CHUNK: timeouts.block,
            Stage.MESSAGE: timeouts.final,
        }[stage]


async def blocks_of(transaction: Transaction) -> AsyncGenerator[bytes, None]:
    """The content in blocks of BLOCK octets; the last one is shorter, maybe empty."""
    content = transaction.content()
    gathered = bytearray()
    try:
        async for chunk in content:
            gathered += chunk
            while len(gathered) >= BLOCK:
                yield bytes(gathered[:BLOCK])
                del gathered[:BLOCK]
        yield bytes(gathered)
    finally:
        if isinstance(content, AsyncGenerator):
            await content.aclose()
