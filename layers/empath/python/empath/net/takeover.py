"""The seam between aiosmtplib, which connects, greets, encrypts and authenticates, and our own client core.

After negotiation the transport gets another protocol, and aiosmtplib hears no more of it. Its private
`_buffer` is looked at once, for octets that came behind the last reply.
"""

from __future__ import annotations

from typing import Any, cast

from aiosmtplib.protocol import SMTPProtocol

from empath.net.stream import MailStream
from empath.smtp.client.verdicts import lost, unreadable

RECEIVE_BUFFER = 16_384
"""Octets asyncio reads at once. Its default of 256 KiB costs a mmap and munmap for every reply."""

_STEP = "the reply to MAIL"


def take_over(protocol: SMTPProtocol) -> MailStream:
    """The connection as it stands, between two commands; the refusals `lost` and `unreadable`."""
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise lost(_STEP)
    if protocol._buffer:
        raise unreadable(_STEP)
    taken = cast(Any, transport)  # uvloop's are no subclass of asyncio.Transport
    stream = MailStream(taken)
    taken.set_protocol(stream)
    if hasattr(taken, "max_size"):
        taken.max_size = RECEIVE_BUFFER
    return stream
