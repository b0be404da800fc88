"""Freezing: nothing is tried for a domain, or for all, until somebody lifts it. A policy, `frozen`.

It is in force within 30 seconds, and until then a worker goes by what it read before. So what is woken when
a freeze is lifted is due a moment later than that.
"""

from __future__ import annotations

from empath.control import policies
from empath.control.errors import ControlError
from empath.control.policies import Change
from empath.control.queue_reading import list_deliveries
from empath.control.queue_selection import Selection
from empath.domain.delivery_state import State
from empath.domain.policy_items import EVERYBODY
from empath.domain.reason import Reason
from empath.pipeline.operating import Operated, Operations
from empath.ports.policies import Policies

IN_FORCE_AFTER = 35.0
"""Seconds until every worker knows of a policy, and a few more."""


async def freeze(store: Policies, name: str) -> Change:
    """Raises ControlError when the policy there cannot be changed."""
    return await policies.change(store, name, {"frozen": True})


async def unfreeze(store: Policies, name: str) -> Change:
    """Take the freeze of a name back; a domain is also let go while all the others stay frozen.

    Raises ControlError when it is not frozen.
    """
    own, everybody = await store.get(name), await store.get(EVERYBODY)
    if name != EVERYBODY and everybody is not None and (everybody.settings or {}).get("frozen"):
        return await policies.change(store, name, {"frozen": False})
    if own is None or not (own.settings or {}).get("frozen"):
        raise ControlError(f"{name} is not frozen", "see `empathctl policy list`")
    return await policies.take_back(store, name, ["frozen"])


async def wake(operations: Operations, name: str, limit: int) -> tuple[list[Operated], bool]:
    """Make what a freeze put off due once all workers know that it is over; and whether there is more."""
    chosen = Selection((State.DEFERRED,), None if name == EVERYBODY else name, reason=Reason.FROZEN)
    rows, has_more = await list_deliveries(operations.ledger, chosen.statuses, limit, chosen.matches)
    keys = [row.key for row in rows]
    return await operations.operate_all("retry", keys, wait=IN_FORCE_AFTER), has_more
