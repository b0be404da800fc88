"""What the pipeline needs from the world, as Protocols: read these files first.

`empath.aws` and `empath.net` are the adapters that run in production, `empath.testing` the ones in
memory; one contract suite per port (tests/contracts) holds both to the same words. Failures are the
errors of `empath.domain.errors`, never those of a client library.
"""

from empath.ports.audit import Audit
from empath.ports.clock import Clock, IdSource
from empath.ports.control import Control
from empath.ports.dialer import Channel, Credentials, Dialer, Endpoint, Transaction, TransactionResult
from empath.ports.dns_cache import DnsAnswer, DnsCache, DnsOrders, DnsOverride
from empath.ports.events import Events
from empath.ports.ledger import Claimed, ClaimResult, LeaseHeld, Ledger, Listed, Missing, Stale
from empath.ports.metrics import Metrics
from empath.ports.queue import JobQueue, OutgoingJob, QueueName, ReceivedJob
from empath.ports.quotas import Quotas
from empath.ports.resolver import MailExchanger, MailExchangers, Resolver
from empath.ports.route import Handover, NextHop, Route, Routes
from empath.ports.secrets import Secrets
from empath.ports.spool import Spool
from empath.ports.suppressions import Suppressions
from empath.ports.users import Users

__all__ = [
    "Audit",
    "Channel",
    "Claimed",
    "ClaimResult",
    "Clock",
    "Control",
    "Credentials",
    "Dialer",
    "DnsAnswer",
    "DnsCache",
    "DnsOrders",
    "DnsOverride",
    "Endpoint",
    "Events",
    "Handover",
    "IdSource",
    "JobQueue",
    "LeaseHeld",
    "Ledger",
    "Listed",
    "MailExchanger",
    "MailExchangers",
    "Metrics",
    "Missing",
    "NextHop",
    "OutgoingJob",
    "QueueName",
    "Quotas",
    "ReceivedJob",
    "Resolver",
    "Route",
    "Routes",
    "Secrets",
    "Spool",
    "Stale",
    "Suppressions",
    "Transaction",
    "TransactionResult",
    "Users",
]
