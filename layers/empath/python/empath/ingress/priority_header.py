"""A header field that says a message's priority, where the operator wants one.

Off unless a setting names it. By themselves `Precedence`, `X-Priority`, `Importance` and `List-*` are no
order to the relay: mail programs set them for readers. It counts from users and clients that may relay, never
from strangers, and lifts no message of a user who is `bulk`: that was decided about him.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from empath.domain.envelope import Priority
from empath.domain.user import User
from empath.ingress.header_section import FIELD_NAME, HeaderSection

PRIORITIES: Mapping[str, Priority] = {"high": "high", "normal": "normal", "bulk": "bulk"}

MAX_VALUE = 100
"""Characters of a value that is looked at."""


@dataclass(frozen=True, slots=True)
class PriorityHeader:
    name: bytes
    """In lower case."""
    values: Mapping[str, Priority]
    """The priority by the field's value, in lower case; any other value says nothing."""

    @classmethod
    def parse(cls, text: str) -> PriorityHeader:
        """`X-Mail-Class`, whose values are high, normal and bulk; or with values of its own,
        `Precedence: bulk=bulk, list=bulk`. ValueError for anything else."""
        name, _, pairs = text.partition(":")
        name = name.strip().lower()
        if FIELD_NAME.fullmatch(name.encode()) is None:
            raise ValueError(f"no name of a header field: {name[:40]!r}")
        values: dict[str, Priority] = {}
        for pair in filter(None, map(str.strip, pairs.split(","))):
            value, _, priority = (part.strip().lower() for part in pair.partition("="))
            if not value or priority not in PRIORITIES:
                raise ValueError(f"no value=high, =normal or =bulk: {pair[:40]!r}")
            values[value] = PRIORITIES[priority]
        return cls(name.encode(), values or PRIORITIES)

    def priority(self, section: HeaderSection) -> Priority | None:
        """What the header says; None when the field is not there, not alone, or says something else."""
        value = section.value(self.name)
        if value is None or len(value) > MAX_VALUE:
            return None
        return self.values.get(value.decode("ascii", "replace").lower())


def chosen_priority(
    header: PriorityHeader | None, section: HeaderSection, *, user: User | None, is_trusted: bool
) -> Priority:
    """The priority of a message that no hook decided about. `is_trusted`: its client's address may relay."""
    own: Priority = "normal" if user is None else user.priority
    if header is None or own == "bulk" or (user is None and not is_trusted):
        return own
    return header.priority(section) or own
