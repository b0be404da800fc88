"""Whether a next hop wants no more on a connection, by what it answered there: such a one is not used again.

    4.3.2 to everybody      the host takes no mail (RFC 3463 §3.4), maybe only on this connection. Postfix's
                            postscreen says so to all that comes on one whose client it did not know at first
    4yz to MAIL             the same in the words of others: OpenSMTPD says 452 from the 101st message on
    MOST_IN_VAIN in a row   nobody was sent anything. Postfix adds a second to each reply from the tenth error
                            of a session on; a flight with BDAT that is refused has two

What it costs is a new connection for the next message, after one that was not sent anyway.
"""

from __future__ import annotations

from empath.domain.outcome import Deferred, RecipientOutcome, Sent
from empath.smtp.client import MailTransaction

MOST_IN_VAIN = 4


class Standing:
    """Of one session."""

    def __init__(self) -> None:
        self._in_vain = 0
        self.is_good = True

    def note(self, done: MailTransaction) -> None:
        """A transaction has come to its end."""
        outcomes = done.outcomes.values()
        if any(isinstance(outcome, Sent) for outcome in outcomes):
            self._in_vain = 0
            return
        if not done.heard:  # nothing was asked
            return
        self._in_vain += 1
        is_closed_to_all = done.is_deferred_at_mail or all(map(_is_about_the_host, outcomes))
        if is_closed_to_all or self._in_vain >= MOST_IN_VAIN:
            self.is_good = False


def _is_about_the_host(outcome: RecipientOutcome) -> bool:
    return isinstance(outcome, Deferred) and str(outcome.reply.enhanced) == "4.3.2"
