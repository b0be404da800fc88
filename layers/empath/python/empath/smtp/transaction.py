"""One mail transaction (RFC 5321 §3.3): the envelope while it grows."""

from __future__ import annotations

from empath.domain.address import Mailbox
from empath.domain.envelope import Envelope, Recipient
from empath.smtp.extensions import MailParameters
from empath.smtp.limits import Limits

_NO_PARAMETERS = MailParameters()
_JSON_AROUND_RECIPIENT = len('{"mailbox":""},')


class Transaction:
    def __init__(self, reverse_path: Mailbox | None, parameters: MailParameters = _NO_PARAMETERS) -> None:
        self.reverse_path = reverse_path
        self.parameters = parameters
        self._recipients: dict[Mailbox, Recipient] = {}
        self._octets = 0

    def has_room(self, mailbox: Mailbox, limits: Limits) -> bool:
        """Whether one more recipient fits; one that is there already always does."""
        if mailbox in self._recipients:
            return True
        octets = self._octets + _json_octets(mailbox)
        return len(self._recipients) < limits.max_recipients and octets <= limits.max_recipient_octets

    def add(self, recipient: Recipient) -> None:
        """Add a recipient; the same mailbox again counts once, for one copy is what it is to get."""
        if recipient.mailbox not in self._recipients:
            self._octets += _json_octets(recipient.mailbox)
        self._recipients[recipient.mailbox] = recipient

    def envelope(self) -> Envelope:
        return Envelope(
            reverse_path=self.reverse_path,
            recipients=tuple(self._recipients.values()),
            eight_bit=self.parameters.eight_bit,
            smtputf8=self.parameters.smtputf8,
            envid=self.parameters.envid,
            ret=self.parameters.ret,
        )


def _json_octets(mailbox: Mailbox) -> int:
    text = str(mailbox)
    escapes = text.count('"') + text.count("\\")
    return len(text.encode()) + escapes + _JSON_AROUND_RECIPIENT
