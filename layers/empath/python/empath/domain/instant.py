"""Points in time as text: UTC, milliseconds, fixed width, so that text order is time order."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

_TEXT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6}Z")


def format_instant(instant: datetime) -> str:
    """`2026-03-01T12:00:00.000Z`."""
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_instant(text: str) -> datetime:
    """The inverse of `format_instant`; ValueError for anything else."""
    # fromisoformat alone would take other forms too; strptime alone takes ten times as long.
    if not _TEXT.fullmatch(text):
        raise ValueError(f"not a point in time: {text[:40]!r}")
    return datetime.fromisoformat(text)


def _to_instant(value: Any) -> Any:
    return parse_instant(value) if isinstance(value, str) else value


def whole_milliseconds(value: datetime) -> datetime:
    """A point in time as its text has it. ValueError without a time zone."""
    if value.tzinfo is None:
        raise ValueError("a point in time needs its time zone")
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


InstantField = Annotated[
    datetime,
    BeforeValidator(_to_instant),
    AfterValidator(whole_milliseconds),
    PlainSerializer(format_instant, when_used="always"),
]
"""A point in time as a pydantic field, cut to what its text carries."""
