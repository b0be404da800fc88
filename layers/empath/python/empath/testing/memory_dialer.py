"""A Dialer whose next hops are scripts in memory; what they were sent is kept.

dialer = ScriptedDialer()
dialer.host("mx.example.test").outcomes["bob@example.test"] = Failed(Reply.of(550, "5.1.1", "Unknown"))
dialer.host("mx2.example.test").refusals.append(TransientRefusal(...))
... deliver ...
assert [message.recipients for message in dialer.messages] == [["ann@example.test"]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from empath.domain.errors import Refusal
from empath.domain.outcome import Deferred, RecipientOutcome, Sent
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.guard import guard
from empath.ports import Endpoint, Transaction, TransactionResult

ACCEPTED = Sent(Reply.of(250, "2.0.0", "Accepted"))
LOST = Deferred(
    Reply.of(451, "4.4.2", "Connection lost while waiting for the reply to the message"),
    Reason.CONNECTION_LOST,
)


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message whose content reached a next hop."""

    endpoint: Endpoint
    reverse_path: str
    recipients: tuple[str, ...]
    """Those that the next hop took, or may have taken when `ambiguous`."""
    content: bytes
    ambiguous: bool = False
    told: Transaction | None = None
    """The transaction with its DSN parameters, of a next hop that has DSN."""


@dataclass(slots=True)
class ScriptedHop:
    """How one next hop behaves; everything may be changed between attempts."""

    refusal: Refusal | None = None
    """Raised by every connect."""
    refusals: list[Refusal] = field(default_factory=list)
    """Raised by the next connects, one each, before `refusal` counts."""
    outcomes: dict[str, RecipientOutcome | list[RecipientOutcome]] = field(default_factory=dict)
    """By recipient; a list is used up attempt by attempt, then `outcome` holds."""
    outcome: RecipientOutcome = ACCEPTED
    ambiguous: int = 0
    """How many of the next transactions take the content and lose the connection before the reply."""
    tls: str | None = None
    dsn: bool = False
    """Whether it has DSN (RFC 3461)."""
    connects: int = 0

    def outcome_for(self, recipient: str) -> RecipientOutcome:
        scripted = self.outcomes.get(recipient, self.outcome)
        if isinstance(scripted, list):
            return scripted.pop(0) if scripted else self.outcome
        return scripted


@dataclass(slots=True)
class ScriptedDialer:
    """Hosts that nobody scripted accept everything."""

    hosts: dict[str, ScriptedHop] = field(default_factory=dict)
    messages: list[ReceivedMessage] = field(default_factory=list)
    endpoints: list[Endpoint] = field(default_factory=list)
    """Every connect, in order."""
    open_channels: int = 0

    def host(self, name: str) -> ScriptedHop:
        """The script of the host with this name (made when it is new)."""
        return self.hosts.setdefault(name, ScriptedHop())

    async def connect(self, endpoint: Endpoint, *, deadline: float) -> ScriptedChannel:
        guard(endpoint)
        hop = self.host(endpoint.host)
        hop.connects += 1
        self.endpoints.append(endpoint)
        refusal = hop.refusals.pop(0) if hop.refusals else hop.refusal
        if refusal is not None:
            raise refusal
        self.open_channels += 1
        return ScriptedChannel(self, endpoint, hop)


@dataclass(slots=True)
class ScriptedChannel:
    dialer: ScriptedDialer
    endpoint: Endpoint
    hop: ScriptedHop
    closed: bool = False
    is_lost: bool = False

    @property
    def tls(self) -> str | None:
        return self.hop.tls

    @property
    def is_usable(self) -> bool:
        return not (self.closed or self.is_lost)

    async def reset(self, *, deadline: float | None = None) -> bool:
        return self.is_usable

    async def transact(self, transaction: Transaction, *, deadline: float | None = None) -> TransactionResult:
        outcomes: Mapping[str, RecipientOutcome] = {
            recipient: self.hop.outcome_for(recipient) for recipient in transaction.recipients
        }
        accepted = tuple(address for address, outcome in outcomes.items() if isinstance(outcome, Sent))
        if not accepted:
            return TransactionResult(outcomes)
        content = b"".join([chunk async for chunk in transaction.content()])
        if transaction.before_commit is not None:
            await transaction.before_commit()
        ambiguous = self.hop.ambiguous > 0
        told = transaction if self.hop.dsn else None
        self.dialer.messages.append(
            ReceivedMessage(self.endpoint, transaction.reverse_path, accepted, content, ambiguous, told)
        )
        if ambiguous:
            self.hop.ambiguous -= 1
            self.is_lost = True
            outcomes = {address: LOST if address in accepted else out for address, out in outcomes.items()}
        passed_on = frozenset(transaction.notify) if self.hop.dsn else frozenset()
        return TransactionResult(outcomes, ambiguous=ambiguous, passed_on=passed_on)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.dialer.open_channels -= 1
