"""A deployment's audit trail in memory, for commands that change something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from empath.domain.audit import AuditRecord
from empath.domain.audit_chain import Block
from empath.domain.errors import AuditTrouble
from empath.domain.redaction import NOTHING_LEFT_OUT, Redaction
from empath.pipeline.operator_log import OperatorLog
from empath.testing.clock import START, ManualClock, SequentialIds
from empath.testing.faults import Faults
from empath.testing.memory_audit import MemoryAudit

OPERATOR = "arn:aws:iam::123456789012:user/ann"


@dataclass(kw_only=True)
class AuditedTarget:
    """What a stand-in for a Target needs beside its ports."""

    redaction: Redaction = NOTHING_LEFT_OUT
    trail: MemoryAudit = field(default_factory=MemoryAudit)
    trail_faults: Faults = field(default_factory=Faults)
    ids: SequentialIds = field(default_factory=SequentialIds)

    @asynccontextmanager
    async def operator_log(self) -> AsyncIterator[OperatorLog]:
        audit = self.trail_faults.wrap("audit", self.trail, AuditTrouble)
        yield OperatorLog(audit, ManualClock(START), self.ids, OPERATOR, self.redaction)

    def lines(self) -> list[AuditRecord]:
        """Everything that the trail was told, in the order of its chains."""
        blocks = [Block.decode(content) for _, content in sorted(self.trail.objects.items())]
        lines = [AuditRecord.model_validate_json(line) for block in blocks for line in block.lines]
        assert all((line.type, line.operator) == ("OperatorAction", OPERATOR) for line in lines)
        return sorted(lines, key=lambda line: line.id)

    def results(self) -> list[tuple[str | None, str | None, str | None]]:
        """Action, target and result of every line."""
        return [(line.action, line.target, line.result) for line in self.lines()]
