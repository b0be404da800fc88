"""Was a message made by a machine? What its header section says (RFC 3834 §5), and what reports look like.

Only asked where nobody said by NOTIFY what reports they want.
"""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import Message
from enum import StrEnum


class Origin(StrEnum):
    PERSON = "person"
    GENERATED = "generated"
    """Sent by a machine of its own accord: somebody wants to know when it fails, nobody waits for it."""
    REPLIED = "replied"
    """A machine's answer, a report among them: nobody is told of it, or two machines would go on for ever."""


def origin_of(header_section: bytes) -> Origin:
    """As the header section has it; any octets will do."""
    header: Message[str, str] = message_from_bytes(header_section, policy=policy.compat32)
    words = {_first_word(value) for value in header.get_all("Auto-Submitted", [])}
    if "auto-replied" in words or header.get_content_type() == "multipart/report":
        return Origin.REPLIED
    # RFC 3834 §5: any other word than "no" is a kind of automatic, known or not.
    return Origin.GENERATED if words - {"no", ""} else Origin.PERSON


def _first_word(value: object) -> str:
    """The keyword of a field, without its parameters and what stands in comments behind it."""
    return str(value).partition(";")[0].partition("(")[0].strip().lower()
