"""The mail transaction of a client, one command at a time (RFC 5321 §3.3), as outcomes per recipient.

Who hears what: a refused recipient its own reply; a refused MAIL or DATA, and the reply to the content,
everybody whom no reply of their own settled; a 421 or a lost connection likewise, as a deferral.
Once the final dot may have left, a missing reply makes the result ambiguous.

Content with octets above 127 is sent as it is to a next hop without 8BITMIME, as Postfix and Exim do:
no next hop in use minds, and a rewritten message breaks its signatures (RFC 6152 §3 would have it
converted or returned).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

from empath.domain.errors import PermanentRefusal, Refusal, TransientRefusal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, outcome_of_refusal, outcome_of_reply
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.mapping import lost, outcome_of_negative, timed_out
from empath.net.names import to_a_labels
from empath.net.stuffing import DotStuffer
from empath.net.timeouts import Timeouts
from empath.net.wire import Wire
from empath.ports import Transaction, TransactionResult

BLOCK = 65_536  # octets of content per write, what asyncio buffers before it asks to wait


@dataclass(slots=True)
class ClientTransaction:
    """One run over a wire; `run` is called once."""

    wire: Wire
    transaction: Transaction
    timeouts: Timeouts
    _outcomes: dict[str, RecipientOutcome] = field(default_factory=dict)
    _accepted: int = 0
    _ambiguous: bool = False

    async def run(self) -> TransactionResult:
        """Raises what the content raises; the connection is dropped then, before any final dot."""
        try:
            await self._converse()
        except Refusal as refusal:
            self._settle(outcome_of_refusal(refusal))
        except BaseException:
            self.wire.abort()
            raise
        return TransactionResult(self._outcomes, ambiguous=self._ambiguous)

    async def _converse(self) -> None:
        paths = self._presentable()
        if not paths or not await self._mail():
            return
        for recipient, path in paths.items():
            await self._rcpt(recipient, path)
        if not self._accepted:
            await self._reset()
            return
        async with aclosing(blocks_of(self.transaction)) as blocks:
            # Read before DATA: trouble with a small message, or with the start of a large one, costs nothing.
            first = await anext(blocks)
            reply = await self._command(b"DATA", timeout=self.timeouts.data, step="the reply to DATA")
            if reply.code == 354:
                await self._content(first, blocks)
                return
        self._settle(outcome_of_negative(reply))
        if reply.is_positive:  # nobody knows what it waits for
            self.wire.abort()
        await self._reset()

    def _presentable(self) -> dict[str, bytes]:
        """Recipients with the path to send; those that need SMTPUTF8 where there is none are failed."""
        offered = "smtputf8" in self.wire.extensions
        needs = Failed(
            Reply.of(553, "5.6.7", "The next hop does not take internationalised mail (SMTPUTF8)"),
            Reason.NEEDS_SMTPUTF8,
        )
        if not offered and (self.transaction.smtputf8 or _path_of(self.transaction.reverse_path) is None):
            self._settle(needs)
            return {}
        paths: dict[str, bytes] = {}
        for recipient in self.transaction.recipients:
            path = recipient.encode() if offered else _path_of(recipient)
            if path is None:
                self._outcomes[recipient] = needs
            else:
                paths[recipient] = path
        return paths

    async def _mail(self) -> bool:
        reverse_path, offers = self.transaction.reverse_path, self.wire.extensions
        utf8 = "smtputf8" in offers
        path = reverse_path.encode() if utf8 else _path_of(reverse_path) or b""
        words = [b"MAIL", b"FROM:<" + path + b">"]
        if "size" in offers:
            words.append(b"SIZE=%d" % self.transaction.size)
        if self.transaction.eight_bit and "8bitmime" in offers:
            words.append(b"BODY=8BITMIME")
        if utf8 and self._is_international():
            words.append(b"SMTPUTF8")
        reply = await self._command(*words, timeout=self.timeouts.mail, step="the reply to MAIL")
        if not _is_ok(reply):
            self._settle(outcome_of_negative(reply))
        return _is_ok(reply)

    def _is_international(self) -> bool:
        addresses = (self.transaction.reverse_path, *self.transaction.recipients)
        return self.transaction.smtputf8 or not all(address.isascii() for address in addresses)

    async def _rcpt(self, recipient: str, path: bytes) -> None:
        words = (b"RCPT", b"TO:<" + path + b">")
        try:
            reply = await self._command(*words, timeout=self.timeouts.rcpt, step="the reply to RCPT")
        except PermanentRefusal as refusal:  # this address cannot be sent; the next one may be
            self._outcomes[recipient] = outcome_of_refusal(refusal)
            return
        if _is_ok(reply):
            self._accepted += 1
        elif self._accepted and reply.code == 552 and str(reply.enhanced) in {"None", "5.5.3"}:
            # "Too many recipients" of old servers, which means later, not never (RFC 5321 §4.5.3.1.10).
            self._outcomes[recipient] = Deferred(reply)
        else:
            self._outcomes[recipient] = outcome_of_negative(reply)

    async def _content(self, first: bytes, blocks: AsyncIterator[bytes]) -> None:
        """Everything after 354. The last block and the final dot go out in one write."""
        stuffer = DotStuffer()
        reply = self.wire.expect_reply()
        try:
            waiting = stuffer.feed(first)
            async for block in blocks:
                await self.wire.write(waiting, timeout=self.timeouts.block, reply=reply)
                if reply.done():
                    break
                waiting = stuffer.feed(block)
            if reply.done():  # an answer before the end can only be a refusal, and ends the session
                self._settle(outcome_of_negative(await reply))
                self.wire.abort()
                return
            if not self.wire.deadline.leaves_time_for_a_reply:
                raise timed_out("the end of the content")
            if not self.wire.usable:
                raise lost("the end of the content")
            self._ambiguous = True
            await self.wire.write(waiting + stuffer.end(), timeout=self.timeouts.final, reply=reply)
            await self._final_reply(reply)
        except Refusal:
            self.wire.abort()
            if self._ambiguous or not await _came(reply):
                raise
            self._settle(outcome_of_negative(reply.result()))
        finally:
            reply.cancel()

    async def _final_reply(self, waiting: asyncio.Task[Reply]) -> None:
        await asyncio.wait({waiting}, timeout=self.wire.deadline.cut(self.timeouts.final))
        if not waiting.done():
            raise timed_out("the reply to the message")
        reply = await waiting
        self._ambiguous = 300 <= reply.code < 400  # no answer to a message at all
        self._settle(outcome_of_reply(reply))

    async def _reset(self) -> None:
        """Leave the session as it was before MAIL, or unusable."""
        if not self.wire.usable:
            return
        try:
            reply = await self.wire.command(b"RSET", timeout=self.timeouts.reset, step="the reply to RSET")
        except Refusal:
            return
        if not _is_ok(reply):
            self.wire.abort()

    async def _command(self, *words: bytes, timeout: float, step: str) -> Reply:
        reply = await self.wire.command(*words, timeout=timeout, step=step)
        if reply.code == 421:  # the next hop hangs up, whatever the command was (RFC 5321 §3.8)
            raise TransientRefusal(reply, Reason.NEXT_HOP_REPLY)
        return reply

    def _settle(self, outcome: RecipientOutcome) -> None:
        """The outcome of everybody who has none yet."""
        for recipient in self.transaction.recipients:
            self._outcomes.setdefault(recipient, outcome)


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


def _path_of(address: str) -> bytes | None:
    """The address in ASCII, its domain in A-labels; None when its local part is not ASCII."""
    if address.isascii():
        return address.encode()
    local_part, _, domain = address.rpartition("@")
    try:
        return f"{local_part}@{to_a_labels(domain)}".encode("ascii")
    except ValueError:
        return None


def _is_ok(reply: Reply) -> bool:
    return 200 <= reply.code < 300


async def _came(reply: asyncio.Task[Reply]) -> bool:
    """Whether a reply was read before the connection broke."""
    await asyncio.wait({reply})
    return not reply.cancelled() and reply.exception() is None
