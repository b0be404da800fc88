"""Conditional writes of the ledger, put together from named sub-conditions.

Attribute names are always written `#name` and values `:name`, so that DynamoDB's list of reserved words does
not matter; `request` declares exactly those that an expression uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from empath.aws.attributes import Attribute
from empath.domain.delivery_state import State
from empath.domain.instant import format_instant
from empath.domain.records import DeliveryRecord

_NAME = re.compile(r"#(\w+)")

EXISTS = "attribute_exists(#pk)"
IS_NEW = "attribute_not_exists(#pk)"
AT_ATTEMPT = "#attempt = :attempt"
NO_LIVE_LEASE = "(attribute_not_exists(#lease) OR #lease.#until <= :now)"
LEASE_IS_OURS = "#lease.#owner = :owner"
SAME_OPERATION = "#operation.#id = :operation_before"
NO_OPERATION = "attribute_not_exists(#operation)"
SAME_DUE = "#next_attempt_at = :due_before"
NOT_DUE = "attribute_not_exists(#next_attempt_at)"


def text(value: str) -> Attribute:
    return {"S": value}


def instant(value: datetime) -> Attribute:
    return {"S": format_instant(value)}


@dataclass(slots=True)
class Write:
    """One write: what it sets, removes and adds, and the conditions that must all hold."""

    conditions: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    adds: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """Names that are not words, such as a report's event, by their placeholder."""
    values: dict[str, Attribute] = field(default_factory=dict)

    def status_in(self, states: Iterable[State]) -> None:
        """Add the condition that the delivery's status is one of `states`."""
        places = []
        for state in sorted(states):
            place = f":{state.lower()}"
            self.values[place] = {"S": state.value}
            places.append(place)
        self.conditions.append(f"#status IN ({', '.join(places)})")

    def operated_as(self, record: DeliveryRecord) -> None:
        """Add the condition that no operator did anything since `record` was read."""
        if record.operation is None:
            self.conditions.append(NO_OPERATION)
        else:
            self.conditions.append(SAME_OPERATION)
            self.values[":operation_before"] = text(record.operation.id)

    def due_as(self, record: DeliveryRecord) -> None:
        """Add the condition that the next attempt is due when `record` says."""
        if record.next_attempt_at is None:
            self.conditions.append(NOT_DUE)
        else:
            self.conditions.append(SAME_DUE)
            self.values[":due_before"] = instant(record.next_attempt_at)

    def request(self) -> dict[str, Any]:
        """The parameters of UpdateItem or PutItem beside table and key."""
        condition = " AND ".join(self.conditions)
        clauses = (("SET", self.sets), ("REMOVE", self.removes), ("ADD", self.adds))
        update = " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses if parts)
        parameters: dict[str, Any] = {}
        if condition:
            parameters["ConditionExpression"] = condition
        if update:
            parameters["UpdateExpression"] = update
        used = _NAME.findall(f"{condition} {update}")
        if used:
            parameters["ExpressionAttributeNames"] = {
                f"#{name}": self.names.get(f"#{name}", name) for name in used
            }
        if self.values:
            parameters["ExpressionAttributeValues"] = self.values
        return parameters
