"""What a record for others leaves out: names of people and machines, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

REDACTED = "[REDACTED]"

RedactedField = Literal["reverse_path", "recipient", "client", "helo", "user", "reply"]
"""What can be left out. Addresses keep their domain; addresses in a reply, whoever's they are, go with
`recipient` and with `reverse_path`, and recipients' names in it with `recipient`."""
REDACTED_FIELDS: tuple[RedactedField, ...] = get_args(RedactedField)

# Anything of the shape of an address, quoted local parts included; a reply may name any.
_ADDRESS = re.compile(r"[^\s<>()\[\],;:@\"]+@|\"(?:[^\"\\]|\\.){0,64}\"@")


@dataclass(frozen=True, slots=True)
class Redaction:
    fields: frozenset[str] = frozenset()

    @classmethod
    def of(cls, fields: Iterable[RedactedField]) -> Redaction:
        return cls(frozenset(fields))

    def address(self, field: RedactedField, value: str) -> str:
        """`[REDACTED]@example.com`; an empty one, the null reverse-path, stays empty."""
        if field not in self.fields or not value:
            return value
        at = value.rfind("@")
        return REDACTED + value[at:] if at >= 0 else REDACTED

    def word(self, field: RedactedField, value: str | None) -> str | None:
        return REDACTED if value is not None and field in self.fields else value

    def reply(self, text: str, about: Iterable[str] = ()) -> str:
        """A reply's words, without the addresses in them where people are left out; and without the names in
        the addresses that it is `about`, for not every server writes them with their domain."""
        if "reply" in self.fields:
            return REDACTED
        if self.fields.isdisjoint({"recipient", "reverse_path"}):
            return text
        text = _ADDRESS.sub(f"{REDACTED}@", text)
        names = sorted(
            {address.rpartition("@")[0].strip('"') for address in about} - {""}, key=len, reverse=True
        )
        if names and "recipient" in self.fields:
            text = re.sub(
                rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)", REDACTED, text, flags=re.IGNORECASE
            )
        return text


NOTHING_LEFT_OUT = Redaction()
