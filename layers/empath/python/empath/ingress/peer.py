"""Who is at the other end of a connection, as far as it is known by now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from empath.domain.network import IPAddress

if TYPE_CHECKING:
    from empath.domain.user import User


@dataclass(slots=True)
class Peer:
    address: IPAddress | None = None
    """Of the client itself, not of a load balancer that speaks for it; None: nobody says."""
    is_trusted: bool = False
    """Whether that address is in a network that may relay."""
    tls: str | None = None
    """Protocol and cipher."""
    user: User | None = None
    """Whom AUTH or a client certificate proved."""

    @property
    def text(self) -> str | None:
        return None if self.address is None else str(self.address)
