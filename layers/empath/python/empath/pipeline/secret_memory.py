"""Secrets of next hops, remembered for minutes: a batch of deliveries is not a batch of reads.

A secret that cannot be had is the operator's to mend, and costs time, never mail: a TransientRefusal that
names it. Values are never logged and in no refusal.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from empath.domain.errors import SecretTrouble, SecretUnusable, TransientRefusal
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.ports import Clock, Credentials, Secrets

KEPT = timedelta(minutes=5)
"""How long a value counts after it was read: a rotated password is used that soon."""


class _Login(BaseModel):
    model_config = ConfigDict(extra="ignore")  # Secrets Manager's own forms hold host, port and more

    username: str = Field(min_length=1)
    password: SecretStr


class SecretMemory:
    """The secrets that one process has read."""

    def __init__(self, secrets: Secrets, clock: Clock) -> None:
        self._secrets, self._clock = secrets, clock
        self._known: dict[str, tuple[str, datetime]] = {}

    async def text(self, name: str) -> str:
        """The secret's value, at most KEPT old; an older one when nothing can be read now.

        Raises TransientRefusal (451 4.3.5) when there is none.
        """
        value, read_at = self._known.get(name, (None, None))
        now = self._clock.now()
        if value is not None and read_at is not None and now - read_at < KEPT:
            return value
        try:
            value = await self._secrets.text(name)
        except SecretTrouble as trouble:
            if value is not None:
                return value
            raise unusable(f"the secret {name!r} cannot be read now") from trouble
        except SecretUnusable as error:
            self._known.pop(name, None)
            raise unusable(str(error)) from error
        self._known[name] = (value, now)
        return value

    async def credentials(self, name: str) -> Credentials:
        """The user name and password in a secret. Raises TransientRefusal when it holds no such thing."""
        try:
            login = _Login.model_validate_json(await self.text(name))
        except ValidationError:
            # Its words quote the value.
            raise unusable(
                f'the secret {name!r} does not hold {{"username": ..., "password": ...}}'
            ) from None
        return Credentials(login.username, login.password.get_secret_value())


def unusable(what: str) -> TransientRefusal:
    """Something that an operator set cannot be used; mail waits until it is mended. `what` may quote."""
    reply = Reply.heard(451, f"4.3.5 The route of this destination is not usable: {what}")
    return TransientRefusal(reply, Reason.ROUTE_UNUSABLE)
