"""One mail transaction (RFC 5321 §3.3): the envelope while it grows."""

from __future__ import annotations

from empath.domain.address import Mailbox
from empath.domain.envelope import Envelope, Recipient
from empath.smtp.extensions import MailParameters
from empath.smtp.limits import Limits

_NO_PARAMETERS = MailParameters()
_MAX_OCTETS_OF_ONE = 2048
"""More than any recipient takes: an address has 254 octets, ORCPT 500, and JSON doubles some of them."""

_JSON_AROUND_RECIPIENT = len('{"mailbox":""},')


class Transaction:
    def __init__(self, reverse_path: Mailbox | None, parameters: MailParameters = _NO_PARAMETERS) -> None:
        self.reverse_path = reverse_path
        self.parameters = parameters
        self._recipients: dict[Mailbox, Recipient] = {}
        self._octets = 0

    def has_room(self, recipient: Recipient, limits: Limits) -> bool:
        """Whether one more recipient fits; a mailbox that is there already takes no new place."""
        is_far_from_full = self._octets + _MAX_OCTETS_OF_ONE <= limits.max_recipient_octets
        if is_far_from_full and len(self._recipients) < limits.max_recipients:
            return True
        known = self._recipients.get(recipient.mailbox)
        octets = self._octets + _json_octets(recipient) - (_json_octets(known) if known else 0)
        has_place = known is not None or len(self._recipients) < limits.max_recipients
        return has_place and octets <= limits.max_recipient_octets

    def add(self, recipient: Recipient) -> None:
        """Add a recipient; the same mailbox again counts once, for one copy is what it is to get."""
        known = self._recipients.get(recipient.mailbox)
        self._octets += _json_octets(recipient) - (_json_octets(known) if known else 0)
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


def _json_octets(recipient: Recipient) -> int:
    octets = _text_octets(str(recipient.mailbox)) + _JSON_AROUND_RECIPIENT
    if recipient.notify is not None:
        octets += len(',"notify":[]') + sum(len(word) + len('"",') for word in recipient.notify)
    if recipient.orcpt is not None:
        octets += len(',"orcpt":""') + _text_octets(recipient.orcpt)
    return octets


def _text_octets(text: str) -> int:
    return len(text.encode()) + text.count('"') + text.count("\\")
