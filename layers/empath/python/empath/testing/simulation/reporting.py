"""What RFC 3461 has to say about the reports of a run, out of the plan and the change log alone.

The oracle knows what each recipient's NOTIFY was, which destinations have DSN and when a delay is one; it
asks nothing of the code that decides. An event is judged when it is first owed, its report when its job is
sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord, RecipientRecord
from empath.dsn.model import UnreadableReport
from empath.dsn.parse import parse_report
from empath.testing.simulation.transitions import HELD, Found

MOMENT = timedelta(seconds=1)
"""The ledger keeps milliseconds."""

Notify = tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a message's sender asked for."""

    notify: Mapping[str, Notify] = field(default_factory=dict)
    """By recipient."""
    automatic: str | None = None
    """What its Auto-Submitted field says."""

    def wants(self, kind: str, address: str) -> bool:
        notify = self.notify.get(address)
        words = {"failed": "FAILURE", "delayed": "DELAY", "relayed": "SUCCESS", "delivered": "SUCCESS"}
        return words[kind] != "SUCCESS" if notify is None else words[kind] in notify

    def hears(self, kind: str, address: str) -> bool:
        """Whether a report that is wanted goes out, whoever made the message."""
        machine = self.automatic == "auto-replied" or (self.automatic is not None and kind == "delayed")
        return not machine or self.notify.get(address) is not None


class Reporting:
    def __init__(
        self,
        *,
        has_dsn: Mapping[str, bool],
        last: Collection[str],
        delay_after: float | None,
        policy: Mapping[str, Any],
    ) -> None:
        """`last` are the domains where mail's way ends."""
        self._has_dsn = has_dsn
        self._last = last
        self._delay_after = None if delay_after is None else timedelta(seconds=delay_after)
        self._policy = policy
        self._about: dict[str, frozenset[str]] = {}
        self._told_of_delay: set[tuple[str, str]] = set()

    def owed(self, asked: Asked, old: DeliveryRecord | None, new: DeliveryRecord) -> Iterator[Found]:
        """What is wrong with the reports that a delivery owes after a change."""
        is_outcome = old is not None and old.attempt != new.attempt
        for address, known in new.recipients.items():
            for kind in ("failed", "relayed", "delivered"):
                event = f"{kind}-{known.attempt}"
                is_owed = self._happened(kind, known, new) and asked.wants(kind, address)
                if is_owed and event not in new.reports:
                    yield "conservation", f"{address} is {known.state} and {event} is not owed"
            if is_outcome and known.state is State.DEFERRED and self._is_late(new, -MOMENT):
                told = f"delayed-{known.delay_reported}"
                if asked.wants("delayed", address) and told not in new.reports:
                    yield "notify", f"{address} is late and nobody is told"
        for event, state in new.reports.items():
            before = old.reports.get(event) if old is not None else None
            if before is None:
                yield from self._begun(event, asked, new)
            if before != state != "owed":
                yield from self._ended(event, state, asked, new)

    def _begun(self, event: str, asked: Asked, new: DeliveryRecord) -> Iterator[Found]:
        kind, _, attempt = event.partition("-")
        about = frozenset(
            address
            for address, known in new.recipients.items()
            if asked.wants(kind, address)
            and self._happened(kind, known, new)
            and self._at(kind, known) == int(attempt)
        )
        self._about[f"{new.key}/{event}"] = about
        if not about:
            yield "notify", f"{event} is owed and nobody asked for it"
        if kind == "delayed":
            # What a gate holds back is late without an attempt whose end would say when.
            if not self._is_late(new, MOMENT) and new.reason not in HELD:
                yield "notify", f"{event} is owed too early"
            for address in sorted(about):
                if (str(new.key), address) in self._told_of_delay:
                    yield "notify", f"{event}: {address} was late before"
                self._told_of_delay.add((str(new.key), address))

    def _ended(self, event: str, state: str, asked: Asked, new: DeliveryRecord) -> Iterator[Found]:
        is_on = self._policy.get("enabled", True)
        heard = self._heard(f"{new.key}/{event}", asked)
        right = {
            "sent": is_on and bool(heard),
            "switched_off": not is_on,
            "automatic": is_on and not heard,
            "over_limit": is_on and bool(heard) and "max_per_hour" in self._policy,
        }
        if not right[state]:
            yield "notify", f"report {event} counts as {state}"

    def composed(self, event: str, asked: Asked, content: bytes) -> Iterator[Found]:
        """What is wrong with the report about `event` (`<message>/<delivery>/<kind>-<attempt>`)."""
        kind = event.rsplit("/", 1)[1].partition("-")[0]
        try:
            report = parse_report(content)
        except UnreadableReport as error:
            yield "notify", f"the report about {event} is none: {error}"
            return
        actions = {recipient.action.value for recipient in report.recipients}
        named = [recipient.final_recipient for recipient in report.recipients]
        if actions != {kind} or set(named) != self._heard(event, asked) or len(set(named)) < len(named):
            yield "notify", f"the report about {event} says {sorted(actions)} of {sorted(named)}"

    def _heard(self, event: str, asked: Asked) -> frozenset[str]:
        kind = event.rsplit("/", 1)[1].partition("-")[0]
        return frozenset(address for address in self._about.get(event, ()) if asked.hears(kind, address))

    def _happened(self, kind: str, known: RecipientRecord, record: DeliveryRecord) -> bool:
        match kind:
            case "failed":
                return known.state in (State.FAILED, State.EXPIRED)
            case "relayed" | "delivered":
                ends_here = record.domain in self._last
                told = self._has_dsn[record.domain]
                return known.state is State.SENT and not told and ends_here is (kind == "delivered")
            case _:
                return known.state is State.DEFERRED

    def _at(self, kind: str, known: RecipientRecord) -> int | None:
        return known.delay_reported if kind == "delayed" else known.attempt

    def _is_late(self, record: DeliveryRecord, more: timedelta) -> bool:
        """Whether its last attempt ended when it was late, give or take a moment."""
        if self._delay_after is None or not record.attempts:
            return False
        last = record.attempts[-1]
        waited = last.started + timedelta(seconds=last.duration or 0) - record.received_at
        return waited + more >= self._delay_after
