"""Who a client is: name and password against what the store keeps, within bounds, and told as a reply.

Nothing of a password is logged, kept or told, and a client cannot learn from the answer or its time whether
there is such a user: unknown and revoked ones cost the same work and hear the same 535.

A password costs some 100 ms of CPU (`domain.password`), which is why it is computed off the event loop, two
at a time and some more in line, and why the answer is remembered for a minute: right ones, for clients that
connect anew for each message are many, and wrong ones, for a device with an old password tries it again and
again.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from empath.domain.errors import InvalidUser, Trouble
from empath.domain.password import DEFAULT_COST, HASH_OCTETS, SALT_OCTETS, encode, verify_password
from empath.domain.reply import Reply
from empath.domain.user import User, user_name
from empath.ports import Users
from empath.smtp import events, replies

logger = logging.getLogger(__name__)

Authenticator = Callable[[str, str], Awaitable[User | None]]
"""From a name and a password to the user that they belong to; None when they do not."""

WORKERS = 2
"""Passwords computed at a time: 16 MiB and a core each, so that two are as much as a small task can bear."""

MAX_WAITING = 100
"""In line for a worker: the last one waits for five seconds or so. Beyond that it is 454 at once."""

REMEMBERED_FOR = 60.0
"""Seconds that the same question is not computed again."""

MAX_REMEMBERED = 10_000
"""Right answers, and as many wrong ones, which do not push them out; some 200 octets each."""


class TooBusy(Trouble):
    """More passwords are asked about than can be computed."""


async def authenticate(
    event: events.Authenticate, authenticator: Authenticator | None, seconds: float
) -> tuple[Reply, User | None]:
    """235 with the user, 535, or 454 when there is no answer within `seconds`."""
    if authenticator is None:
        return replies.CANNOT_AUTHENTICATE, None
    try:
        async with asyncio.timeout(seconds):
            user = await authenticator(event.user, event.password)
    except TimeoutError:
        logger.error("no answer about a user's password", extra={"user": event.user})
        return replies.CANNOT_AUTHENTICATE, None
    except Exception as error:  # noqa: BLE001 (whatever it is: the client hears 454 and the listener lives on)
        # Its text is not logged: who knows what an authenticator's errors quote.
        fields = {"user": event.user, "error": type(error).__name__}
        logger.error("no answer about a user's password", extra=fields)
        return replies.CANNOT_AUTHENTICATE, None
    return (replies.AUTH_OK, user) if user else (replies.AUTH_FAILED, None)


class PasswordCheck:
    """An Authenticator over the users of the store; `close` it with the listener.

    Asks the store each time, so that who is revoked, or has another password by now, is out as soon as the
    store says so. Raises Trouble: the store's own, or TooBusy.
    """

    def __init__(
        self,
        users: Users,
        *,
        workers: int = WORKERS,
        max_waiting: int = MAX_WAITING,
        monotonic: Callable[[], float] = time.monotonic,
        verify: Callable[[str, str], bool] = verify_password,
    ) -> None:
        self._users = users
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="password")
        self._max_running = workers + max_waiting
        self._monotonic = monotonic
        self._verify = verify
        # A key that dies with the process: what is remembered is worth nothing to who reads its memory later.
        self._key = os.urandom(32)
        # Answers by their question, and until when they count.
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._wrong: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        # For users that there are not: a hash that no password is known for, at the usual cost.
        self._nobodys = encode(DEFAULT_COST, os.urandom(SALT_OCTETS), os.urandom(HASH_OCTETS))

    async def __call__(self, name: str, password: str) -> User | None:
        user = await self._find(name)
        kept = self._nobodys if user is None or user.password_hash is None else user.password_hash
        mark = self._mark(kept, name, password)
        is_right = self._remembered(mark)
        if is_right is None:
            is_right = await self._compute(mark, password, kept)
        if not is_right or user is None or user.is_revoked:
            return None
        return user

    async def close(self) -> None:
        """Compute no more than what is under way; who waits in line is told 454."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _find(self, name: str) -> User | None:
        try:
            return await self._users.user(user_name(name))
        except InvalidUser:
            return None

    def _mark(self, kept: str, name: str, password: str) -> bytes:
        # With the hash, so that nothing is remembered of who has a new password; with the name, so that two
        # names that nobody has are two questions, as two names that somebody has are.
        text = f"{kept}\0{name}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")

    def _remembered(self, mark: bytes) -> bool | None:
        for answers in (self._right, self._wrong):
            until = answers.get(mark)
            if until is not None and self._monotonic() < until:
                return answers is self._right
        return None

    async def _compute(self, mark: bytes, password: str, kept: str) -> bool:
        running = self._running.get(mark)
        if running is None:
            if len(self._running) >= self._max_running:
                raise TooBusy("too many passwords are in line")
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._pool, self._verify, password, kept)
            self._running[mark] = running
            running.add_done_callback(lambda done: self._computed(mark, done))
        # The same question has one answer, for those who ask meanwhile, too; who leaves takes it from nobody.
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise TooBusy("closed while a password was in line") from None
            raise

    def _computed(self, mark: bytes, done: asyncio.Future[bool]) -> None:
        del self._running[mark]
        if done.cancelled() or done.exception() is not None:
            return
        answers = self._right if done.result() else self._wrong
        answers[mark] = self._monotonic() + REMEMBERED_FOR
        answers.move_to_end(mark)
        if len(answers) > MAX_REMEMBERED:
            answers.popitem(last=False)
