"""What a submission port asks of a message, and what it adds to one (RFC 6409).

On a relay port none of this happens: a message is somebody else's there, and gets its `Received` only.

What is added goes in front of the content, like all trace information; the content stays as it was sent:

- `Date` and `Message-ID`, where there are none (RFC 6409 §8.2, §8.3). One that is there stays, well-formed or
  not: a signature may cover it (RFC 6409 §8).

What is refused, since nothing may be forwarded that does not conform to RFC 5322 (RFC 6409 §8). For
"syntactic problems in the data" the reply code is 554 (RFC 6409 §6.3); the nearest enhanced code is 5.6.0,
other media error.

- No `From`, which RFC 5322 §3.6 demands. Postfix and Exim make one of the reverse-path for their own clients;
  an author is not the relay's to guess.
- More than one `From`, `Date` or `Message-ID`, of which RFC 5322 §3.6 allows one each. Which of two authors a
  reader is shown is anybody's guess, and DMARC may have checked the other (RFC 7489 §6.6.1). Left alone, such
  mail is refused further on, where its sender hears of it late.

No `Sender` is added (RFC 6409 §8.1, a MAY): a user's name need not be a valid address, and it is in the
message's source anyway.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from empath.domain.reply import Reply
from empath.ingress.header_section import HeaderSection
from empath.ingress.trace import format_date

NO_FROM = Reply.of(554, "5.6.0", "The message has no From field (RFC 5322)")

_AT_MOST_ONE = {
    name.lower().encode(): Reply.of(554, "5.6.0", f"More than one {name} field (RFC 5322)")
    for name in ("From", "Date", "Message-ID")
}


def refusal_of(section: HeaderSection) -> Reply | None:
    """The reply to a message that cannot be sent on as its author's."""
    for name, reply in _AT_MOST_ONE.items():
        if section.count(name) > 1:
            return reply
    return None if section.count(b"from") else NO_FROM


def missing_fields(
    section: HeaderSection, added: Collection[bytes], *, message_id: str, hostname: str, at: datetime
) -> str:
    """The fields that have to be there and are not, with CRLF line ends; `added` names, in lower case,
    what is in front of the section already."""
    fields = ""
    if not section.count(b"date") and b"date" not in added:
        fields += f"Date: {format_date(at)}\r\n"
    if not section.count(b"message-id") and b"message-id" not in added:
        fields += f"Message-ID: <{message_id}@{hostname}>\r\n"  # RFC 5322 §3.6.4
    return fields
