"""Lost changes in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from empath.ports.lost_changes import LostChanges


class MemoryLostChanges:
    """`held` is for a test to put things into; `give` is the journal, and `gone` what the stream forgot."""

    def __init__(self, give: Callable[[LostChanges], Awaitable[None]]) -> None:
        self.held: dict[str, LostChanges] = {}
        self.gone: set[str] = set()
        self._give = give

    async def receive(self) -> Sequence[LostChanges]:
        return list(self.held.values())[:10]

    async def replay(self, lost: LostChanges) -> bool:
        if lost.name in self.gone:
            return False
        await self._give(lost)
        return True

    async def forget(self, lost: LostChanges) -> None:
        self.held.pop(lost.name, None)
