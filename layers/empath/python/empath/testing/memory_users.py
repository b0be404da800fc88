"""Users in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from empath.domain.errors import UserConflict
from empath.domain.user import User


class MemoryUsers:
    """Users in a dict by name, always fresh."""

    def __init__(self, users: Iterable[User] = ()) -> None:
        self.items = {user.name: user for user in users}

    async def user(self, name: str) -> User | None:
        return self.items.get(name)

    async def put_user(self, user: User, *, replacing: User | None = None) -> None:
        if replacing is not None and replacing.name != user.name:
            raise ValueError("a user keeps its name")
        if self.items.get(user.name) not in (replacing, user):
            fault = "is there already" if replacing is None else "was changed by somebody else"
            raise UserConflict(f"user {user.name} {fault}")
        self.items[user.name] = user

    async def users(self) -> Sequence[User]:
        return [self.items[name] for name in sorted(self.items)]
