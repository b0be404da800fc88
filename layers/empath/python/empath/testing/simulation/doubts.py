"""What must hold of mail that may have arrived, where policy holds it or gives it up.

    claim -> ... -> mark -> final dot -> reply -> record

The promise of `hold` and `fail`: nobody gets a message twice, whoever dies or stands still, unless an
operator releases it; who is held or given up for doubt was really in doubt, which is what the mark says; and
nothing leaves without its mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from empath.domain.delivery_state import State
from empath.domain.policy import OnAmbiguous
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.testing.simulation.transitions import Found

DECIDED: Mapping[State, OnAmbiguous] = {State.HELD: "hold", State.FAILED: "fail"}
INVARIANT = "doubts are decided"


class Doubts:
    def __init__(self, policies: Mapping[str, OnAmbiguous]) -> None:
        """`policies` by domain."""
        self._policies = policies
        self._marked: set[str] = set()
        """Owners of attempts, and deliveries."""
        self._released: set[tuple[str, str]] = set()
        """Message and address of whom an operator released."""

    def changed(self, old: DeliveryRecord | None, new: DeliveryRecord) -> Iterator[Found]:
        """What is wrong with a change of a delivery."""
        policy = self._policies[new.domain]
        for entry in new.attempts[-1:]:
            if entry.commits_at is not None and entry.owner not in self._marked:
                self._marked |= {entry.owner, str(new.key)}
                if policy == "retry":
                    yield INVARIANT, "an attempt was marked where policy tries again"
        for address, known in new.recipients.items():
            if old is not None and old.recipients.get(address) is known:
                continue
            if old is not None and old.recipients[address].state is State.HELD:
                self._released.add((new.message_id, address))
            is_doubt = known.reason is Reason.AMBIGUOUS
            if known.state is State.HELD and not is_doubt and known.reason is not Reason.OPERATOR_HOLD:
                yield INVARIANT, f"{address} is held, and nobody held it"
            elif is_doubt and DECIDED.get(known.state) != policy:
                yield INVARIANT, f"{address} is {known.state} for doubt where policy says {policy}"
            elif is_doubt and str(new.key) not in self._marked:
                yield INVARIANT, f"{address} is {known.state} for doubt, and nothing was ever sent"

    def taken(
        self, domain: str, owner: str | None, message_id: str, address: str, copies: int
    ) -> Iterator[Found]:
        """What is wrong when a next hop takes a message for somebody, for the so manieth time."""
        if self._policies[domain] == "retry":
            return
        if owner not in self._marked:
            yield INVARIANT, f"{address} got it from {owner}, which did not mark it"
        if copies > 1 and (message_id, address) not in self._released:
            yield "nothing is sent twice", f"{address} got it {copies} times where doubts are decided"
