"""Ways for mail to leave: a route finds the next hop of a destination, the next hop takes transactions.

Adding one: its settings in `domain.route`, a class with `find`, and a line in `bootstrap.routes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from empath.domain.errors import Refusal
from empath.domain.outcome import RecipientOutcome, outcome_of_refusal
from empath.domain.policy import DomainPolicy
from empath.ports.dialer import Transaction


@dataclass(frozen=True, slots=True)
class Handover:
    """What one attempt to hand mail over brought: an outcome for every recipient."""

    outcomes: Mapping[str, RecipientOutcome] = field(default_factory=dict)
    next_hop: str | None = None
    """Who answered, or was tried last; None when nobody was."""
    tls: str | None = None
    ambiguous: bool = False
    """The message may have been taken although nobody said so."""
    passed_on: frozenset[str] = frozenset()
    """Recipients whose NOTIFY the next hop was told (RFC 3461 §5.2.1)."""
    dnssec: bool = False
    """DNSSEC proved the next hop to be the destination's, as the name server says."""

    @classmethod
    def refused(cls, transaction: Transaction, refusal: Refusal, next_hop: str | None = None) -> Handover:
        """The same answer for everybody."""
        return cls(dict.fromkeys(transaction.recipients, outcome_of_refusal(refusal)), next_hop)


class NextHop(Protocol):
    """Where a destination's mail goes by one route, now."""

    @property
    def site(self) -> str:
        """One name for the set of hosts, or the service, that gates count for."""

    async def deliver(self, transaction: Transaction, *, time_left: Callable[[], float]) -> Handover:
        """Hand the message over, once; `time_left` tells the seconds after which nothing may go on.

        Network errors and refusals become outcomes. Raises SpoolTrouble and SpoolObjectMissing, out of the
        content, and what `before_commit` raises: the message was not sent then.
        """


class Route(Protocol):
    async def find(self, destination: str, policy: DomainPolicy) -> NextHop:
        """Where mail for `destination` goes. Raises Refusal when it is known that it can go nowhere now."""


class Routes(Protocol):
    """All that there are; by the policy's `route.kind`. Raises what the route's `find` raises."""

    async def find(self, destination: str, policy: DomainPolicy) -> NextHop: ...
