"""Who may authenticate, kept by operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # every function imports the ports, and only the listener has users: 4 ms of a cold start
    from empath.domain.user import User


class Users(Protocol):
    """Every method raises ControlTrouble when the store does not answer, or holds what cannot be read."""

    async def user(self, name: str) -> User | None:
        """The user of a name as `domain.user.user_name` writes it; may be up to 30 s old.

        Revoked ones are given as well: what that means is for the caller to say.
        """

    async def put_user(self, user: User, *, replacing: User | None = None) -> None:
        """Write a new user; with `replacing`, in place of exactly that record, as it was read.

        Raises UserConflict, and writes nothing, when a new user's name is taken, or when the record is
        gone or another one by now. Writing the same once more is no conflict. ValueError when the two have
        different names.
        """

    async def users(self) -> Sequence[User]:
        """All users that were ever written here, by name; never old."""
