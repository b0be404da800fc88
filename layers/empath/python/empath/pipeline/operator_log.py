"""The audit trail of what operators do where no stream follows the change: the control table.

    "asked" -> the change -> "done" or "failed"

The first line comes before the change, and where it cannot be written nothing is changed: so nobody does
anything without a line. A line that came only afterwards would be missing whenever a process dies, or is made
to, right after its change; one that came only before would not say what came of it. An `asked` that nothing
follows says that somebody tried, and that what is in force is to be looked at.

Both lines are in the same chain, in this order, for the chain is chosen by what their ids begin with.

Operations on deliveries are told by the journal (pipeline.operating).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from empath.domain.audit import AuditRecord
from empath.domain.errors import AuditTrouble
from empath.domain.redaction import NOTHING_LEFT_OUT, REDACTED, RedactedField, Redaction
from empath.pipeline.audit_trail import AuditTrail
from empath.ports import Audit, Clock, IdSource

MAX_WORDS = 500
"""Characters of a problem, and of what was before and after."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """What the second line says beside its result; set by who makes the change."""

    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorLog:
    audit: Audit | None
    """None: this deployment has no audit trail."""
    clock: Clock
    ids: IdSource
    operator: str
    redaction: Redaction = NOTHING_LEFT_OUT

    @asynccontextmanager
    async def entry(
        self, action: str, target: str, field: RedactedField | None = None
    ) -> AsyncIterator[Entry]:
        """Around one change of `target`, which the trail may be set to leave out as it does a `field`.

        Raises AuditTrouble, whose words say whether the change was made.
        """
        entry = Entry()
        if self.audit is None:
            yield entry
            return
        name = self.ids.new_id()
        shown = self._shown(target, field)
        about: dict[str, Any] = {"operator": self.operator, "action": action, "target": shown}
        try:
            await self._append(f"{name}/asked", about | {"result": "asked"})
        except AuditTrouble as error:
            raise AuditTrouble(f"nothing was done, for the audit trail cannot be written: {error}") from error
        try:
            yield entry
        except Exception as error:
            try:
                problem = _words(str(error).replace(target, shown))
                await self._append(f"{name}/ended", about | {"result": "failed", "problem": problem})
            except AuditTrouble:
                # What went wrong in the first place is what the operator has to hear of.
                logger.warning("the audit trail does not say that this failed", extra={"action": action})
            raise
        ended = {"result": "done", "before": _words(entry.before), "after": _words(entry.after)}
        try:
            await self._append(f"{name}/ended", about | ended)
        except AuditTrouble as error:
            raise AuditTrouble(
                f"it was done, but the audit trail says only that it was asked: {error}"
            ) from error

    def _shown(self, target: str, field: RedactedField | None) -> str:
        if field is None or field not in self.redaction.fields:
            return target
        return self.redaction.address(field, target) if field == "recipient" else REDACTED

    async def _append(self, line: str, words: dict[str, Any]) -> None:
        if self.audit is not None:
            record = AuditRecord(id=line, type="OperatorAction", at=self.clock.now(), **words)
            await AuditTrail(self.audit, self.clock).append([record])


def _words(text: str | None) -> str | None:
    return text[:MAX_WORDS] if text else None
