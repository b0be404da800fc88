"""What is known about a message and what it waits for: the ledger, and what the control table says.

What cannot be read there is said, and the rest is told all the same: whoever wants to know why mail waits
should not have to wait for every table, nor need every right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from empath.control.errors import ControlError
from empath.control.queue_reading import message_and_deliveries
from empath.control.target import Target
from empath.domain.circuit import Circuit
from empath.domain.errors import EmpathError
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord, MessageRecord
from empath.domain.suppression import Suppression
from empath.ports import DnsAnswer, DnsOverride
from empath.smtp.domain_names import to_a_labels

P = TypeVar("P")


@dataclass(slots=True)
class Facts:
    """What is known; `unknown` says what could not be read, and why."""

    message: MessageRecord | None
    deliveries: Sequence[DeliveryRecord]
    circuits: Mapping[str, Circuit] = field(default_factory=dict)
    """Those that are not closed, by site."""
    policies: dict[str, DomainPolicy] = field(default_factory=dict)
    """In force, by domain."""
    overrides: dict[str, DnsOverride] = field(default_factory=dict)
    """By domain."""
    answers: dict[str, DnsAnswer] = field(default_factory=dict)
    """MX answers that processes share, by domain."""
    suppressions: Mapping[str, Suppression] = field(default_factory=dict)
    """Of recipients that failed because of them, by address."""
    unknown: list[str] = field(default_factory=list)


async def gather(target: Target, message_id: str, now: datetime) -> Facts:
    """Raises ControlError when the ledger does not know it, LedgerTrouble when it does not answer."""
    async with target.ledger() as ledger:
        facts = Facts(*await message_and_deliveries(ledger, message_id))
    async with _reading(facts, "circuits", target.gates) as gates:
        facts.circuits = await gates.circuits()
    async with _reading(facts, "policies and DNS", target.dns) as ports:
        orders = await ports.cache.orders()
        for domain in sorted({record.domain for record in facts.deliveries}):
            facts.policies[domain] = await ports.control.policy(domain)
            name = _name_in_dns(domain)
            if name is None:
                continue
            if (override := orders.overrides.get(name)) is not None:
                facts.overrides[domain] = override
            if (answer := await ports.cache.answer(name)) is not None:
                facts.answers[domain] = answer
    suppressed = [
        address
        for record in facts.deliveries
        for address, known in record.recipients.items()
        if known.reason is Reason.SUPPRESSED
    ]
    if suppressed:
        async with _reading(facts, "the suppression list", target.suppressions) as suppressions:
            facts.suppressions = await suppressions.find(suppressed, now=now)
    return facts


@asynccontextmanager
async def _reading(
    facts: Facts, what: str, ports: Callable[[], AbstractAsyncContextManager[P]]
) -> AsyncIterator[P]:
    """Ports to read from; trouble with them ends the block, and is noted."""
    try:
        async with ports() as port:
            yield port
    except (ControlError, EmpathError) as error:
        facts.unknown.append(f"{what}: {error}")


def _name_in_dns(domain: str) -> str | None:
    if domain.startswith("["):
        return None
    try:
        return to_a_labels(domain)
    except ValueError:
        return None
