"""Connections that are kept for the next message: a Dialer over a Dialer.

    connect   an idle connection to the same endpoint, with the same TLS and login, or a new one
    close     the connection is idle from then on, unless it is of no more use

A Lambda function is frozen between its invocations, and so are its idle connections: nobody hears there that
the next hop hung up, and nothing can be closed. So what happened meanwhile is looked at first, and whoever
was idle for longer than TRUSTED_FOR is asked by RSET. A connection that is found dead costs no attempt,
neither here nor when it is found out with the first words of a transaction (`channel`).

Where the connections to a site are counted, an idle one has no right of its own: `close_idle` is called
before a right is given back, and a new connection takes the place of an idle one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from empath.net.guard import guard
from empath.net.timeouts import Deadline
from empath.ports import Channel, Clock, Dialer, Endpoint, Metrics, Transaction, TransactionResult

MAX_AGE = timedelta(seconds=300)
"""Of a connection that is used again, as Postfix's smtp_connection_reuse_time_limit: a host that is down for
its new connections is not kept in use by an old one for ever, and load follows DNS."""

MAX_IDLE = timedelta(seconds=60)
"""As KumoMTA's idle_timeout. Postfix's cache keeps 2 s, less than invocations are apart in time; servers that
keep to RFC 5321 §4.5.3.2.7 wait for 5 minutes."""

TRUSTED_FOR = timedelta(seconds=5)
"""How long an idle connection is taken for alive without asking: a busy function's jobs come faster."""

SIGN_OF_LIFE = 5.0
"""Seconds for the reply to RSET; a new connection is quick to have in comparison."""

MAX_CONNECTIONS = 100
"""Idle ones and those in use. A function works on some ten jobs at a time; it may have 1024 files open."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Connection:
    channel: Channel
    endpoint: Endpoint
    opened: datetime
    idle_since: datetime
    messages: int = 0


@dataclass(slots=True)
class ConnectionPool:
    """For one event loop; one of each process. Counts `connections_opened`, `_reused` and `_found_dead`."""

    dialer: Dialer
    clock: Clock
    metrics: Metrics
    most: int = MAX_CONNECTIONS
    _idle: dict[Hashable, list[_Connection]] = field(default_factory=dict, init=False)
    """By what has to be the same; the one that was used last is the last."""
    _in_use: int = field(default=0, init=False)
    _farewells: dict[asyncio.Task[None], str] = field(default_factory=dict, init=False)
    """By site: those that are just being closed."""

    async def connect(self, endpoint: Endpoint, *, deadline: float) -> PooledChannel:
        guard(endpoint)
        end = Deadline(deadline)
        if self._idle:
            await _let_news_in()
            self._dismiss_old()
        if endpoint.is_counted:
            await self._close_uncounted(endpoint.site)
        self._in_use += 1  # from here on, so that others who connect meanwhile count this one
        try:
            connection = await self._reuse(endpoint, end) or await self._open(endpoint, end)
        except BaseException:
            self._in_use -= 1
            raise
        return PooledChannel(connection, end, self._give_back)

    async def close_idle(self, site: str) -> None:
        """Close an idle connection of those to a site, if there is one, and see off those that are just being
        closed. Never raises."""
        connection = self._oldest(site)
        if connection is not None:
            self._dismiss(connection)
        await asyncio.gather(*(task for task, of in self._farewells.items() if of == site))

    async def _close_uncounted(self, site: str) -> None:
        """Close what stayed open since there was no limit: nobody has a right to it."""
        for connection in [*self._all_idle()]:
            if connection.endpoint.site == site and not connection.endpoint.is_counted:
                self._dismiss(connection)
        await asyncio.gather(*(task for task, of in self._farewells.items() if of == site))

    async def close(self) -> None:
        """Close all that are idle; those in use are closed when they are given back."""
        self.most = 0
        for connection in [*self._all_idle()]:
            self._dismiss(connection)
        await asyncio.gather(*self._farewells)

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return sum(map(len, self._idle.values()))

    @property
    def in_use(self) -> int:
        """How many connections are in use, or about to be."""
        return self._in_use

    # Taking

    async def _reuse(self, endpoint: Endpoint, end: Deadline) -> _Connection | None:
        key = _identity(endpoint)
        while (connection := self._take(key, endpoint)) is not None:
            if await self._is_alive(connection, end):
                connection.endpoint = endpoint  # with the policy of now
                self.metrics.count("connections_reused")
                return connection
            self.metrics.count("connections_found_dead")
            logger.info("an idle connection was dead", extra={"next_hop": str(endpoint)})
            # Whoever was idle as long or longer is no better, and each costs time to ask.
            for other in self._idle.get(key, ())[:]:
                if other.idle_since <= connection.idle_since:
                    self._dismiss(other)
        return None

    def _take(self, key: Hashable, endpoint: Endpoint) -> _Connection | None:
        """The idle connection that was used last, if one will do."""
        for connection in reversed(self._idle.get(key, ())[:]):
            if connection.messages >= endpoint.messages_per_connection:
                continue  # another domain's policy may allow more
            self._forget(connection)
            return connection
        return None

    async def _is_alive(self, connection: _Connection, end: Deadline) -> bool:
        channel = connection.channel
        idle_for = self.clock.now() - connection.idle_since
        is_alive = False
        try:
            # A clock that was set back says nothing about how long it was.
            is_fresh = timedelta() <= idle_for <= TRUSTED_FOR
            is_alive = channel.is_usable and (is_fresh or await channel.reset(deadline=end.cut(SIGN_OF_LIFE)))
        finally:
            if not is_alive:
                await channel.close()
        return is_alive

    async def _open(self, endpoint: Endpoint, end: Deadline) -> _Connection:
        if endpoint.is_counted:
            await self.close_idle(endpoint.site)
        while self.idle + self._in_use > self.most and (oldest := self._oldest()) is not None:
            self._dismiss(oldest)
        channel = await self.dialer.connect(endpoint, deadline=end.remaining)
        self.metrics.count("connections_opened")
        now = self.clock.now()
        return _Connection(channel, endpoint, opened=now, idle_since=now)

    # Giving back

    async def _give_back(self, connection: _Connection) -> None:
        self._in_use -= 1
        now = self.clock.now()
        if (
            connection.channel.is_usable
            and connection.messages < connection.endpoint.messages_per_connection
            and now - connection.opened < MAX_AGE
            and self.idle + self._in_use < self.most
        ):
            connection.idle_since = now
            self._idle.setdefault(_identity(connection.endpoint), []).append(connection)
        else:
            await connection.channel.close()

    def _dismiss_old(self) -> None:
        now = self.clock.now()
        for connection in [*self._all_idle()]:
            if (
                now - connection.idle_since >= MAX_IDLE
                or now - connection.opened >= MAX_AGE
                or not connection.channel.is_usable
            ):
                self._dismiss(connection)

    def _dismiss(self, connection: _Connection) -> None:
        """Close without waiting for the next hop's farewell."""
        self._forget(connection)
        farewell = asyncio.create_task(connection.channel.close())
        self._farewells[farewell] = connection.endpoint.site
        farewell.add_done_callback(self._farewells.pop)

    def _forget(self, connection: _Connection) -> None:
        key = _identity(connection.endpoint)
        self._idle[key].remove(connection)
        if not self._idle[key]:
            del self._idle[key]

    def _oldest(self, site: str | None = None) -> _Connection | None:
        """The connection, of those to a site or of all, that was idle for longest."""
        idle = (one for one in self._all_idle() if site is None or one.endpoint.site == site)
        return min(idle, key=lambda connection: connection.idle_since, default=None)

    def _all_idle(self) -> Iterator[_Connection]:
        return (connection for connections in self._idle.values() for connection in connections)


class PooledChannel:
    """Channel over a connection that outlives it."""

    def __init__(
        self, connection: _Connection, end: Deadline, give_back: Callable[[_Connection], Awaitable[None]]
    ) -> None:
        self._connection, self._end, self._give_back = connection, end, give_back
        self._tls = connection.channel.tls
        self._is_closed = False

    @property
    def tls(self) -> str | None:
        """As it is now: a channel may have connected anew."""
        if not self._is_closed:
            self._tls = self._connection.channel.tls
        return self._tls

    @property
    def is_usable(self) -> bool:
        return not self._is_closed and self._connection.channel.is_usable

    async def transact(self, transaction: Transaction, *, deadline: float | None = None) -> TransactionResult:
        if self._is_closed:
            raise RuntimeError("this channel was given back")
        self._connection.messages += 1
        # The connection remembers the deadline of whoever had it before.
        return await self._connection.channel.transact(
            transaction, deadline=self._end.remaining if deadline is None else deadline
        )

    async def reset(self, *, deadline: float | None = None) -> bool:
        if self._is_closed:
            return False
        return await self._connection.channel.reset(
            deadline=self._end.remaining if deadline is None else deadline
        )

    async def close(self) -> None:
        """Give the connection back, for the next message."""
        if not self._is_closed:
            self._tls, self._is_closed = self.tls, True
            await self._give_back(self._connection)


async def _let_news_in() -> None:
    """Turns of the loop, for what came for idle connections to be read, decrypted and told."""
    for _ in range(3):
        await asyncio.sleep(0)


def _identity(endpoint: Endpoint) -> Hashable:
    """What two uses of a connection must have in common. What addresses policy allows is asked each time."""
    return (
        endpoint.host,
        endpoint.address,
        endpoint.port,
        endpoint.protocol,
        endpoint.implicit_tls,
        endpoint.tls,
        endpoint.tls_name,
        endpoint.accept_invalid_certs,
        endpoint.credentials,
        endpoint.site,
    )
