"""The last check before a socket is opened: mail goes to the global Internet, or where policy says.

Kept apart from the dialer so that every dialer, the one in memory too, refuses the same addresses.
"""

from __future__ import annotations

from empath.domain.errors import PermanentRefusal
from empath.domain.network import is_allowed
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.ports import Endpoint


def guard(endpoint: Endpoint) -> None:
    """Raise PermanentRefusal (550 5.4.4, ADDRESS_NOT_ALLOWED) unless mail may go to the address.

    Permanent, because an address record that points into a private network is a fault of the zone (or
    an attack) that waiting does not mend, and a sender should hear of it at once. 5.4.4 is "unable
    to route" (RFC 3463 §3.5). Another host of the same destination may still be tried.
    """
    if not is_allowed(endpoint.address, endpoint.allow_addresses):
        text = f"{endpoint.host} has the address {endpoint.address}, to which mail is not sent"
        raise PermanentRefusal(Reply.of(550, "5.4.4", text), Reason.ADDRESS_NOT_ALLOWED)
