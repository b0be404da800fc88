"""The replies that are the listener's own; those of the protocol are in `empath.smtp.replies`."""

from __future__ import annotations

from empath.domain.errors import Trouble
from empath.domain.reply import Reply

RELAYING_DENIED = Reply.of(550, "5.7.1", "Relaying denied")
SENDER_ROUTING = Reply.of(550, "5.7.1", "Relaying denied: routing by the sender in the local part")
NOT_YOUR_ADDRESS = Reply.of(550, "5.7.1", "This user may not send from this address")
TOO_MANY_AUTH_FAILURES = Reply.of(421, "4.7.0", "Too many authentication failures, try again later")
TOO_MANY_HOPS = Reply.of(554, "5.4.6", "Too many hops; the message seems to go in circles")
TROUBLE = Trouble.reply
TOO_MANY_CONNECTIONS = Reply.of(421, "4.7.0", "Too many connections, try again later")
SHUTTING_DOWN = Reply.of(421, "4.3.2", "System is shutting down, closing the connection")
TIMED_OUT = Reply.of(421, "4.4.2", "Timeout, closing the connection")


def queued(message_id: str) -> Reply:
    return Reply.of(250, "2.0.0", f"Ok: queued as {message_id}")
