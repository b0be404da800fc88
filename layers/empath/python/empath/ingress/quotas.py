"""How many messages a client network and a user may send in an hour, counted for all tasks together.

A task takes its part of an allowance from the store in blocks, a twentieth of the limit each, so that most
messages ask nobody. What a block costs is exactness at the end: the parts that other tasks hold and do not
use are missing, at most a block for each.

Over the limit the reply is 450 4.7.1, as Postfix gives it for smtpd_client_message_rate_limit: temporary, for
the client's queue is the right place to wait (SES says 454, Gmail 421 or 450), and without ending a session
that has done nothing wrong otherwise. It names the limit, and the time from which on it is worth another try.

When the store is in trouble, mail is worth more than an exact count: a task then grants by itself, up to what
the limit would be for it alone, logs it and counts `quota_unknown`. So an attacker who could silence the
store would gain the number of tasks, not the world.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from empath.domain.errors import ControlTrouble
from empath.domain.network import IPAddress
from empath.domain.reply import Reply
from empath.domain.user import User
from empath.ingress.client_network import client_network
from empath.ports import Clock, Metrics, Quotas
from empath.ports.quotas import window_start

logger = logging.getLogger(__name__)

WINDOW = timedelta(hours=1)

BLOCKS = 20
MAX_BLOCK = 100
"""Messages taken at once at most: a limit of millions is not lost by thousands with each task that goes."""

ANSWER_WITHIN = 2.0
"""Seconds that a client waits for the store, at most, before it is as good as in trouble."""

TROUBLE_PAUSE = 10.0
"""Seconds that a store in trouble is not asked again, for anybody."""

MAX_KEYS = 10_000
"""Networks and users remembered at a time, the latest; some 5 MB. Who is forgotten asks the store anew."""


@dataclass(frozen=True, slots=True)
class _Allowance:
    """One limit that a message counts against."""

    key: str
    limit: int
    whose: str
    """As the reply says it."""


@dataclass(slots=True)
class _Part:
    """What this task has of an allowance, in one window."""

    ends: datetime
    left: int = 0
    used: int = 0
    """Messages that went through here."""
    exhausted_limit: int = 0
    """The store has no more for a limit of so many: one that is raised is worth another question."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class MessageQuotas:
    """Ask `take_local` first, for it is cheap; where it says no, `refusal` knows whether that is the end."""

    def __init__(
        self,
        quotas: Quotas,
        clock: Clock,
        metrics: Metrics,
        *,
        per_network: int | None = None,
        per_user: int | None = None,
        max_keys: int = MAX_KEYS,
    ) -> None:
        """Messages an hour, None for no limit. A user's own `messages_per_hour` counts before `per_user`."""
        self._quotas = quotas
        self._clock = clock
        self._metrics = metrics
        self._per_network = per_network
        self._per_user = per_user
        self._max_keys = max_keys
        self._parts: OrderedDict[str, _Part] = OrderedDict()
        self._asks_again_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._parts)

    def take_local(self, *, client: IPAddress | None, user: User | None) -> bool:
        """Whether one more message is within what this task holds already; it is counted then.

        None as a client: its network has no limit. Where it is False nothing is counted.
        """
        now = self._clock.now()
        parts = [self._part(allowance, now) for allowance in self._allowances(client, user)]
        if any(part.left <= 0 for part in parts):
            return False
        _use(parts)
        return True

    async def refusal(self, *, client: IPAddress | None, user: User | None) -> Reply | None:
        """None, and one more message is counted; or the reply that it gets. Raises nothing of its own."""
        now = self._clock.now()
        allowances = list(self._allowances(client, user))
        while True:
            parts = [self._part(allowance, now) for allowance in allowances]
            empty = next(((a, p) for a, p in zip(allowances, parts, strict=True) if p.left <= 0), None)
            if empty is None:
                _use(parts)
                return None
            if not await self._refilled(*empty, now):
                self._metrics.count("quota_refused")
                return _over(*empty)

    def _allowances(self, client: IPAddress | None, user: User | None) -> Iterator[_Allowance]:
        if client is not None and self._per_network is not None:
            network = client_network(client)
            yield _Allowance(f"network#{network}", self._per_network, f"network {network}")
        if user is not None:
            limit = user.messages_per_hour or self._per_user
            if limit is not None:
                yield _Allowance(f"user#{user.name}", limit, "this user")

    def _part(self, allowance: _Allowance, now: datetime) -> _Part:
        part = self._parts.get(allowance.key)
        if part is None or now >= part.ends:
            part = self._parts[allowance.key] = _Part(window_start(now, WINDOW) + WINDOW)
            if len(self._parts) > self._max_keys:
                self._parts.popitem(last=False)
        self._parts.move_to_end(allowance.key)
        return part

    async def _refilled(self, allowance: _Allowance, part: _Part, now: datetime) -> bool:
        """Whether there is something left now, after asking the store if need be."""
        async with part.asking:
            if part.left <= 0 and allowance.limit > part.exhausted_limit:
                part.left = await self._take_block(allowance, part, now)
            return part.left > 0

    async def _take_block(self, allowance: _Allowance, part: _Part, now: datetime) -> int:
        block = min(max(allowance.limit // BLOCKS, 1), MAX_BLOCK)
        if self._asks_again_at is None or now >= self._asks_again_at:
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    granted = await self._quotas.take(
                        allowance.key, block, limit=allowance.limit, window=WINDOW, now=now
                    )
            except (ControlTrouble, TimeoutError) as error:
                self._asks_again_at = now + timedelta(seconds=TROUBLE_PAUSE)
                fields = {"error": f"{type(error).__name__}: {error}"}
                logger.warning("quotas cannot be read; every task grants by itself", extra=fields)
            else:
                self._asks_again_at = None
                if granted < block:
                    part.exhausted_limit = max(part.exhausted_limit, allowance.limit)
                return granted
        self._metrics.count("quota_unknown")
        return max(0, min(block, allowance.limit - part.used))


def _use(parts: list[_Part]) -> None:
    for part in parts:
        part.left -= 1
        part.used += 1


def _over(allowance: _Allowance, part: _Part) -> Reply:
    text = f"Limit of {allowance.limit} messages an hour reached for {allowance.whose}"
    return Reply.of(450, "4.7.1", f"{text}; try again after {part.ends:%H:%M} UTC")
