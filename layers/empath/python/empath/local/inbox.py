"""The inbox of the local internet: takes mail for every domain and files it as Maildir.

`<root>/<domain>/new/` holds one file per recipient, with the octets of the message as they came, CRLF
kept (Python's `mailbox` would change the line ends). A file's name ends in the recipient's local part.
Two domains behave as their names say: `reject.test` refuses every recipient, `defer.test` defers every
message twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path

from empath.local.errors import LocalStackError
from empath.smtp.domain_names import to_a_labels
from empath.testing.smtp_sink import EXTENSIONS, Act, Session, SmtpSink

HOSTNAME = "mx.inbox.test"
REJECTING = "reject.test"
DEFERRING = "defer.test"
DEFERRALS = 2
DEFERRALS_REMEMBERED = 10_000  # messages
SESSIONS_REMEMBERED = 100

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._=+\[\]-]")
_MAX_LOCAL_PART = 64


class Inbox(SmtpSink):
    def __init__(self, root: Path) -> None:
        super().__init__(
            hostname=HOSTNAME, extensions=(*EXTENSIONS, "CHUNKING", "SMTPUTF8"), history=SESSIONS_REMEMBERED
        )
        self.root = root
        self._deferrals: OrderedDict[bytes, int] = OrderedDict()
        self._numbers = itertools.count(1)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, root: Path, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Inbox]:
        """An inbox that listens for the length of a block; LocalStackError when it cannot."""
        inbox = cls(root)
        try:
            await inbox.start(host, port)
        except OSError as error:
            raise LocalStackError(
                f"the inbox cannot listen on {host}:{port}: {error.strerror or error}",
                "is the port in use? Choose another one with EMPATH_INBOX_PORT",
            ) from error
        try:
            yield inbox
        finally:
            await inbox.stop()

    async def act(self, stage: str, argument: str, session: Session) -> Act | None:
        if stage == "RCPT" and _domain_of(argument) == REJECTING:
            return Act(f"550 5.1.1 <{argument}>: no such user here")
        return None

    async def take(self, session: Session, content: bytes) -> Act | None:
        if any(_domain_of(recipient) == DEFERRING for recipient in session.recipients):
            number = self._defer(session.recipients, content)
            if number <= DEFERRALS:
                return Act(f"451 4.7.1 Try again later ({number} of {DEFERRALS})")
        try:
            await asyncio.to_thread(self._file, tuple(session.recipients), content)
        except OSError as error:
            return Act(f"451 4.3.0 Cannot be filed: {error.strerror or 'no space'}")
        return None

    def _defer(self, recipients: list[str], content: bytes) -> int:
        """How often this message has come for these recipients, until it is accepted."""
        key = hashlib.sha256(
            "\n".join(sorted(recipients)).encode("utf-8", "replace") + b"\n" + content
        ).digest()
        number = self._deferrals.pop(key, 0) + 1
        if number <= DEFERRALS:
            self._deferrals[key] = number
            while len(self._deferrals) > DEFERRALS_REMEMBERED:
                self._deferrals.popitem(last=False)
        return number

    def _file(self, recipients: tuple[str, ...], content: bytes) -> None:
        """Write to `tmp`, then rename to `new`: a reader never sees half a message."""
        for recipient in recipients:
            maildir = self.root / folder_of(recipient)
            for part in ("tmp", "new", "cur"):
                (maildir / part).mkdir(parents=True, exist_ok=True)
            name = self._name_for(recipient)
            half = maildir / "tmp" / name
            half.write_bytes(content)
            half.rename(maildir / "new" / name)

    def _name_for(self, recipient: str) -> str:
        local_part = _NOT_IN_A_NAME.sub("_", recipient.rpartition("@")[0] or recipient)[:_MAX_LOCAL_PART]
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        unique = f"M{nanoseconds // 1000:06d}P{os.getpid()}Q{next(self._numbers)}"
        return f"{seconds}.{unique}.{local_part}"


def folder_of(recipient: str) -> str:
    """The folder of a recipient's domain: one path component, whatever RCPT said."""
    domain = _domain_of(recipient)
    with contextlib.suppress(ValueError):
        domain = to_a_labels(domain)
    return _NOT_IN_A_NAME.sub("_", domain).lstrip(".")[:200] or "_"


def _domain_of(recipient: str) -> str:
    return recipient.rpartition("@")[2].lower().removesuffix(".")
