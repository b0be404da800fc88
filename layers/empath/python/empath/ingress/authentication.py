"""Whether a user's password is right: asked of whoever knows, within bounds, and told as a reply.

Where credentials are kept is not known here; `Authenticator` answers, and nothing of a password is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from empath.domain.reply import Reply
from empath.smtp import events, replies

logger = logging.getLogger(__name__)

Authenticator = Callable[[str, str], Awaitable[bool]]
"""From user and password to whether they belong together."""


async def reply_for(event: events.Authenticate, authenticator: Authenticator | None, seconds: float) -> Reply:
    """235, 535, or 454 when there is no answer within `seconds`."""
    if authenticator is None:
        return replies.CANNOT_AUTHENTICATE
    try:
        async with asyncio.timeout(seconds):
            is_right = await authenticator(event.user, event.password)
    except TimeoutError:
        logger.error("no answer about a user's password", extra={"user": event.user})
        return replies.CANNOT_AUTHENTICATE
    except Exception as error:  # noqa: BLE001 (whatever it is: the client hears 454 and the listener lives on)
        # Its text is not logged: who knows what an authenticator's errors quote.
        fields = {"user": event.user, "error": type(error).__name__}
        logger.error("no answer about a user's password", extra=fields)
        return replies.CANNOT_AUTHENTICATE
    return replies.AUTH_OK if is_right else replies.AUTH_FAILED
