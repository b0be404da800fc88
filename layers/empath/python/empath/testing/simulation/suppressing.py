"""What must hold of the suppression list: it has who has no mailbox, and nobody fails by it who is not on it.

The oracle knows what each next hop said, which tenants do without the list, and when which entry came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from empath.domain.delivery_state import State
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.domain.suppression import Suppression
from empath.testing.clock import START
from empath.testing.memory_suppressions import MemorySuppressions
from empath.testing.simulation.hops import UNKNOWN
from empath.testing.simulation.loop import SECOND
from empath.testing.simulation.plan import OPTED_OUT
from empath.testing.simulation.process import SCOPE
from empath.testing.simulation.transitions import Found

SKEW = 20 * SECOND
"""More than two clocks, and the second that the stream cuts to, can be apart."""


class Suppressing:
    def __init__(
        self,
        policy: Mapping[str, Any] | None,
        entries: MemorySuppressions,
        now: Callable[[], int],
        broken: Callable[[str, str], None],
    ) -> None:
        """`policy` of everybody but the tenant that opted out; None: there is no list."""
        self._policy, self._entries, self._now, self._broken = policy, entries, now, broken
        self._days = (policy or {}).get("days", 14)
        self._without_mailbox: set[tuple[str, str]] = set()
        """Message and address, in lower case."""
        self._in_force: defaultdict[str, list[tuple[int, int | None]]] = defaultdict(list)
        """When an address was on the list, from and until."""
        self._refused: set[tuple[str, str]] = set()
        for address in entries.entries:
            self._in_force[address].append((0, None))

    def _counts_for(self, tenant: str | None) -> bool:
        return self._policy is not None and tenant != OPTED_OUT

    # What happens.

    def changed(self, old: DeliveryRecord | None, new: DeliveryRecord) -> Iterator[Found]:
        """What is wrong with a change of a delivery."""
        for address, known in new.recipients.items():
            earlier = old.recipients.get(address) if old is not None else None
            if earlier is known:
                continue
            if old is None and known.state is State.QUEUED and self._is_listed(new, address, surely=True):
                yield "suppression", f"{address} is on the list and is tried"
            if known.state is not State.FAILED or (earlier is not None and earlier.state is State.FAILED):
                continue
            if known.reason is Reason.SUPPRESSED:
                self._refused.add((new.message_id, address))
                if old is not None or not self._is_listed(new, address, surely=False):
                    yield "suppression", f"{address} failed by the list, and is not on it for {new.tenant}"
            elif known.reply == UNKNOWN.reply and self._counts_for(new.tenant):
                self._without_mailbox.add((new.message_id, address.lower()))

    def _is_listed(self, record: DeliveryRecord, address: str, *, surely: bool) -> bool:
        """Whether an entry was in force all the time that the worker had, or at any of it."""
        if not self._counts_for(record.tenant):
            return False
        began, now = SCOPE.get().process.began, self._now()
        if surely:
            return any(
                since <= began and (until is None or until > now + SKEW)
                for since, until in self._in_force[address.lower()]
            )
        return any(
            since <= now and (until is None or until > began - SKEW)
            for since, until in self._in_force[address.lower()]
        )

    def listed(self, entry: Suppression) -> None:
        """The journal puts an address on the list."""
        if (entry.message_id, entry.address) not in self._without_mailbox:
            self._broken("suppression", f"{entry.address} is put on the list for nothing")
        elif entry.until != entry.since + timedelta(days=self._days):
            self._broken("suppression", f"{entry.address} is put on the list until {entry.until}")
        else:
            self._in_force[entry.address].append((self._now(), _virtual(entry.until)))

    def is_refused(self, message_id: str, address: str) -> bool:
        """Whether a recipient failed by the list, so that no next hop may ever see it."""
        return (message_id, address) in self._refused

    # The end.

    def at_the_end(self) -> Iterator[Found]:
        for message_id, address in sorted(self._without_mailbox):
            if address not in self._entries.entries:
                yield "suppression", f"{address} has no mailbox, says {message_id}, and is not on the list"


def _virtual(moment: datetime) -> int:
    return (moment - START) // timedelta(microseconds=1)
