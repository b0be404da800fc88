"""ports.Channel over a session: limits of the next hop kept, broken extensions gone around.

A transaction is sent again without an extension only when nobody was accepted and nothing is ambiguous.

A 530 on a session that is in the clear only because TLS failed is no word about the mail: the next hop
insists on TLS (RFC 3207 §4), which may be mended.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from empath.domain.errors import LedgerTrouble, Refusal, SpoolObjectMissing, SpoolTrouble
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, Sent, outcome_of_refusal
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.extension_memory import ExtensionMemory
from empath.net.session import ClientSession
from empath.net.timeouts import Deadline
from empath.ports import Transaction, TransactionResult
from empath.smtp.client import Breach, Forward, MailTransaction, OutgoingMail
from empath.smtp.client.offer import batches, by_domains, domain_of
from empath.smtp.domain_names import to_a_labels

logger = logging.getLogger(__name__)

MAX_TRIES = 4
"""Of one transaction: as it is, and with one extension after the other left off."""

_NOT_TRIED = Deferred(
    Reply.of(451, "4.3.0", "The message could not be read again for further recipients"), Reason.WORKER_FAILED
)

_UNHEARD = frozenset({Reason.CONNECTION_LOST, Reason.TIMEOUT, Reason.PROTOCOL_ERROR})
"""Reasons that a recipient in doubt may have, and one in no doubt too."""


class SmtpChannel:
    """Channel over one connection at a time. After an outcome by a lost connection it only closes."""

    def __init__(
        self,
        session: ClientSession,
        reopen: Callable[[Deadline], Awaitable[ClientSession]],
        host: str,
        memory: ExtensionMemory,
    ) -> None:
        """`reopen` connects anew to the same host, with the extensions that `memory` leaves on."""
        self._session = session
        self._reopen = reopen
        self._host = host
        self._memory = memory
        self._is_closed = False

    @property
    def tls(self) -> str | None:
        return self._session.tls

    @property
    def is_usable(self) -> bool:
        return self._session.stands and self._session.has_room and self._session.is_welcome

    async def transact(self, transaction: Transaction, *, deadline: float | None = None) -> TransactionResult:
        if deadline is not None:
            self._session.deadline = Deadline(deadline)
        outcomes: dict[str, RecipientOutcome] = {}
        in_doubt: set[str] = set()
        passed_on: set[str] = set()
        recipients = list(dict.fromkeys(transaction.recipients))
        waiting = deque(self._batches(recipients))
        while waiting:
            batch = waiting.popleft()
            try:
                await self._make_room(batch, is_first=not outcomes)
            except Refusal as refusal:
                outcomes |= dict.fromkeys(batch, outcome_of_refusal(refusal))
                continue
            try:
                done = await self._send(transaction, batch)
            except (SpoolTrouble, SpoolObjectMissing, LedgerTrouble):
                if not outcomes:
                    raise
                # Others were sent the message already: nobody may take them for not tried.
                logger.warning("the message was sent to some of its recipients only", exc_info=True)
                outcomes = dict.fromkeys(recipients, _NOT_TRIED) | outcomes
                break
            outcomes |= self._second_thoughts(done)
            if done.is_ambiguous:
                in_doubt.update(batch)
            # RFC 5321 §4.5.3.1.10: those who were too many are sent the message in another transaction.
            if _is_sent(done) and (rest := _too_many(done)):
                waiting.appendleft(rest)
            if "DSN" in done.used:
                passed_on.update(batch)
        if in_doubt:
            outcomes = _told_apart(outcomes, in_doubt)
        return TransactionResult(
            {address: outcomes[address] for address in recipients},
            ambiguous=bool(in_doubt),
            passed_on=frozenset(passed_on),
        )

    async def reset(self, *, deadline: float | None = None) -> bool:
        if deadline is not None:
            self._session.deadline = Deadline(deadline)
        return await self._session.reset()

    async def close(self) -> None:
        self._is_closed = True
        await self._session.quit()

    def _batches(self, recipients: list[str]) -> list[Sequence[str]]:
        """The recipients of one transaction each (RCPTMAX), in order."""
        offer = self._session.offer
        return [
            batch
            for group in by_domains(recipients, offer.max_domains)
            for batch in batches(group, offer.max_recipients)
        ]

    async def _make_room(self, batch: Sequence[str], *, is_first: bool) -> None:
        """Connect anew where the next hop takes no more on this connection; raises refusals."""
        session = self._session
        domains = {domain_of(recipient) for recipient in batch}
        is_fit = session.has_room and session.takes_domains(domains) and (is_first or session.stands)
        if is_fit or self._is_closed:
            return
        await session.quit()
        self._session = await self._reopen(session.deadline)

    async def _send(self, transaction: Transaction, batch: Sequence[str]) -> MailTransaction:
        mail = _mail_of(transaction, batch)
        was_idle = self._session.was_used and self._session.stands
        done = await self._session.run(mail, transaction)
        if was_idle and done.is_broken and not done.is_answered and not done.is_ambiguous:
            again = await self._send_anew(mail, transaction, done)
            if again is None:
                return done
            done = again
        for _ in range(MAX_TRIES - 1):
            breach = done.breach
            # Where somebody was accepted, the extensions worked, whatever others were told.
            if breach is None or _is_sent(done) or not self._memory.blames(self._host, breach):
                break
            self._leave_off(breach, done)
            deadline = self._session.deadline
            if done.is_ambiguous or not deadline.leaves_time_for_a_reply:
                break
            self._session.abort()
            try:
                self._session = await self._reopen(deadline)
            except Refusal:
                break
            again = await self._session.run(mail, transaction)
            if _said(again) == _said(done):
                self._memory.acquit(self._host, breach.keywords)
            done = again
        if _is_sent(done):
            self._memory.prove(self._host, done.used)
        return done

    async def _send_anew(
        self, mail: OutgoingMail, transaction: Transaction, done: MailTransaction
    ) -> MailTransaction | None:
        """Once more on a new connection: next hops end those that were in use or idle for a while. Silence is
        none of that, it has cost its time."""
        deadline = self._session.deadline
        is_late = any(outcome.reason is Reason.TIMEOUT for outcome in done.outcomes.values())
        if is_late or not deadline.leaves_time_for_a_reply:
            return None
        try:
            self._session = await self._reopen(deadline)
        except Refusal:
            return None
        return await self._session.run(mail, transaction)

    def _second_thoughts(self, done: MailTransaction) -> dict[str, RecipientOutcome]:
        """The outcomes, with replies about TLS taken for what they are."""
        failure = self._session.tls_failure
        if failure is None:
            return done.outcomes
        return {
            address: outcome_of_refusal(failure)
            if isinstance(outcome, Failed) and outcome.reply.code == 530
            else outcome
            for address, outcome in done.outcomes.items()
        }

    def _leave_off(self, breach: Breach, done: MailTransaction) -> None:
        self._memory.leave_off(self._host, breach.keywords)
        logger.warning(
            "a next hop does not do what it offers; the extensions are left off for a day",
            extra={
                "next_hop": self._host,
                "extensions": sorted(breach.keywords),
                "replies": sorted({str(outcome.reply) for outcome in done.outcomes.values()})[:3],
                "ambiguous": done.is_ambiguous,
            },
        )


def _told_apart(outcomes: Mapping[str, RecipientOutcome], in_doubt: set[str]) -> dict[str, RecipientOutcome]:
    """The outcomes, where only recipients `in_doubt` have a reason that may mean doubt: what became of
    another transaction is known."""
    return {
        address: Deferred(outcome.reply, Reason.CONNECTION_FAILED)
        if address not in in_doubt and isinstance(outcome, Deferred) and outcome.reason in _UNHEARD
        else outcome
        for address, outcome in outcomes.items()
    }


def _is_sent(done: MailTransaction) -> bool:
    return any(isinstance(outcome, Sent) for outcome in done.outcomes.values())


def _too_many(done: MailTransaction) -> list[str]:
    """Recipients that were refused for their number only."""
    return [
        address
        for address, outcome in done.outcomes.items()
        if isinstance(outcome, Deferred)
        and outcome.reply.code in {452, 552}
        and str(outcome.reply.enhanced) in {"None", "4.5.3", "5.5.3"}
    ]


def _said(done: MailTransaction) -> dict[str, tuple[type, int, object]]:
    """The outcomes without their words."""
    return {
        address: (type(outcome), outcome.reply.code, outcome.reason)
        for address, outcome in done.outcomes.items()
    }


def _mail_of(transaction: Transaction, recipients: Sequence[str]) -> OutgoingMail:
    return OutgoingMail(
        reverse_path=transaction.reverse_path,
        reverse_ascii=_in_ascii(transaction.reverse_path),
        recipients=[
            Forward(
                address,
                _in_ascii(address),
                transaction.notify.get(address),
                transaction.orcpt.get(address),
            )
            for address in recipients
        ],
        size=transaction.size,
        eight_bit=transaction.eight_bit,
        smtputf8=transaction.smtputf8,
        envid=transaction.envid,
        ret=transaction.ret,
    )


def _in_ascii(address: str) -> str | None:
    """The address in ASCII, its domain in A-labels; None when its local part is not ASCII."""
    if address.isascii():
        return address
    local_part, _, domain = address.rpartition("@")
    try:
        path = f"{local_part}@{to_a_labels(domain)}"
    except ValueError:
        return None
    return path if path.isascii() else None
