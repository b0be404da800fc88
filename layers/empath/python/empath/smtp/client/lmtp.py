"""LMTP: the same transaction, but each accepted recipient is answered for after the message (RFC 2033 §4.2).

So one message may be taken for some and refused for others, and when the session is lost amid those replies,
only who was not answered for is in doubt. Content goes by DATA: with BDAT the next hop would have to be
trusted to answer as often although no RFC says when nobody was accepted.
"""

from __future__ import annotations

from empath.domain.outcome import outcome_of_reply
from empath.domain.reply import Reply
from empath.smtp.client.envelope import OutgoingMail
from empath.smtp.client.offer import Offer
from empath.smtp.client.reply_reader import ReplyReader
from empath.smtp.client.state import Stage, Step
from empath.smtp.client.transaction import CHUNK, Due, MailTransaction


class LmtpTransaction(MailTransaction):
    """A mail transaction after LHLO."""

    def __init__(
        self,
        mail: OutgoingMail,
        offer: Offer,
        reader: ReplyReader | None = None,
        *,
        reset: bool = False,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(mail, offer.without({"CHUNKING"}), reader, reset=reset, chunk=chunk)
        self._answered = 0

    def _hear_final(self, reply: Reply) -> None:
        if reply.code < 200 or 300 <= reply.code < 400:
            super()._hear_final(reply)  # no answer to a message at all
            return
        forward = self._answers.accepted[self._answered]
        self._answered += 1
        # Not settled as of this flight: should the next reply be nonsense, this one was still heard.
        self._answers.settle_for_sure({forward.address: outcome_of_reply(reply)})
        if self._answered < len(self._answers.accepted):
            self._due.append(Due(Stage.MESSAGE))
        else:
            self.needs_reset = False
            self._advance(Step.END)

    def _hear_needless_data(self, reply: Reply) -> None:
        # RFC 2033 §4.2: DATA must be refused when nobody was accepted. After 354 no reply would ever come.
        if reply.is_positive:
            self._advance(Step.BREAK)
