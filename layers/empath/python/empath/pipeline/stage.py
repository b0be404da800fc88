"""How a stage gets its ports: by the names of its fields."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Stage:
    """A frozen dataclass whose fields are ports (and settings) with the names that every process uses."""

    @classmethod
    def over(cls, ports: Any) -> Self:
        """The stage over `ports`, an object with an attribute for each field that has no default."""
        given = [field for field in fields(cls) if field.default is MISSING or hasattr(ports, field.name)]
        return cls(**{field.name: getattr(ports, field.name) for field in given})
