"""Where audit blocks are kept, and how far their chains have come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # every function imports the ports, and only the journal has the audit trail
    from empath.domain.audit_chain import Head


class Audit(Protocol):
    """Every method raises AuditTrouble when the store does not answer."""

    async def put_new(self, key: str, content: bytes) -> bool:
        """Store an object under a key that has none; False, and nothing is stored, when it has one."""

    async def get(self, key: str) -> bytes | None:
        """The object now under a key, None when there is none. What `put_new` found is there."""

    def keys(self, prefix: str) -> AsyncIterator[str]:
        """Every key that begins so, in the order of text."""

    async def head(self, shard: int, *, fresh: bool = True) -> Head | None:
        """How far a chain has come; None when it was never begun. One that is not `fresh` may be as old as
        this process."""

    async def advance(self, head: Head) -> bool:
        """Set a chain's head, if it is one block behind (or not begun, for number 0); else False."""
