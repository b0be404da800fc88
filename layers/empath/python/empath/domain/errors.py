"""Errors that know their reply and whose fault they are.

Two families. A `Refusal` is an answer about mail: it carries the Reply that the peer gets or that
the ledger keeps. A `Trouble` is our own: something this system needs does not answer; it is always
worth another try, and the client that waits for an answer gets 451, never the internals.
Foreign errors (botocore, OSError, dnspython, aiosmtplib) are mapped at the seam, in `aws` and `net`.
"""

from __future__ import annotations

from empath.domain.reason import Reason
from empath.domain.reply import Reply


class EmpathError(Exception):
    """The root of every error of this project."""


class ConfigError(EmpathError):
    """A setting is missing or cannot be used; the text names it and says what it should hold."""


class AddressSyntaxError(EmpathError):
    """Not a mailbox of RFC 5321 §4.1.2; the text says why."""


class Refusal(EmpathError):
    """An answer about mail, with its reply."""

    def __init__(self, reply: Reply, reason: Reason) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.reason = reason


class TransientRefusal(Refusal):
    """The same mail may be accepted later: deliveries are deferred."""


class PermanentRefusal(Refusal):
    """The same mail will never be accepted: deliveries fail."""


class Trouble(EmpathError):
    """A part that this system needs does not answer; the work is to be tried again."""

    reply = Reply.of(451, "4.3.0", "Temporary system problem, please try again later")


class SpoolTrouble(Trouble):
    """The spool cannot store, read or delete raw messages now."""


class SpoolObjectMissing(EmpathError):
    """The spool answers, and the object is not there."""


class QueueTrouble(Trouble):
    """The job queues do not take or give jobs now."""


class LedgerTrouble(Trouble):
    """The ledger does not answer now."""


class ControlTrouble(Trouble):
    """Runtime policy cannot be read now."""


class AuditTrouble(Trouble):
    """The audit trail cannot be written or read now."""


class EventsTrouble(Trouble):
    """Events about mail cannot be handed over now."""


class JournalTrouble(Trouble):
    """The journal does not take changes of the ledger now."""


class SecretTrouble(Trouble):
    """A secret cannot be read now."""


class SecretUnusable(EmpathError):
    """There is no such secret, or none that this process may read; the text names it and never its value."""


class LeaseLost(EmpathError):
    """Another worker claimed the delivery; nothing was written."""


class IllegalTransition(EmpathError):
    """An event that the delivery state table does not know in this state; nothing was written."""


class UnreadableJob(EmpathError):
    """A job that this version cannot read; it belongs in the dead-letter queue."""


class InvalidPolicy(EmpathError):
    """A policy item that fails validation; the text names the field and the reason."""


class InvalidUser(EmpathError):
    """A user's record that fails validation; the text names the field and the reason."""


class UserConflict(EmpathError):
    """A user is there already, or is no longer what the change was made of; nothing was written."""


class UnreadablePasswordHash(EmpathError):
    """A password's hash that this version cannot use; the text says why and quotes nothing of it."""
