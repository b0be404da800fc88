"""One message on its way from a connection into the pipeline, and the reply that it ends with.

The store begins with the first octet, not with the last. Whatever goes wrong, the answer is honest:
the reply is positive only when `Acceptance.accept` returned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from empath.domain.envelope import Envelope, Priority, Source
from empath.domain.errors import Trouble
from empath.domain.reply import Reply
from empath.domain.user import User
from empath.ingress import replies, submission
from empath.ingress.content_stream import ContentAborted, ContentStream
from empath.ingress.header_section import HeaderReader, HeaderSection
from empath.ingress.hooks import Message
from empath.ingress.hooks_runner import SessionHooks
from empath.ingress.hooks_verdict import Decision
from empath.ingress.priority_header import chosen_priority
from empath.ingress.services import Services
from empath.pipeline.accept import Additions, trace_id_of

logger = logging.getLogger(__name__)

_UNDECIDED = Decision()


class Reception:
    def __init__(
        self,
        services: Services,
        *,
        message_id: str,
        received_at: datetime,
        envelope: Envelope,
        source: Source,
        prepend: str,
        on_taken: Callable[[], None],
        on_done: Callable[[Reception], None],
        is_submission: bool = False,
        user: User | None = None,
        is_trusted: bool = False,
        hooks: SessionHooks | None = None,
    ) -> None:
        """Storing begins with the first content. `on_taken` is called when the spool took all that waited,
        `on_done` when `reply` is there."""
        self.message_id = message_id
        self.reply: Reply | None = None
        self._services = services
        self._envelope = envelope
        self._source = source
        self._received_at = received_at
        self._prepend = prepend
        self._on_done = on_done
        self._is_submission = is_submission
        self._user = user
        self._is_trusted = is_trusted
        self._hooks = hooks if hooks is not None and hooks.has("message") else None
        self._decision = _UNDECIDED if hooks is None else Decision(metadata=hooks.metadata)
        self._stream = ContentStream(on_taken)
        self._header = HeaderReader(services.settings.header_limits.max_octets)
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting_octets(self) -> int:
        return self._stream.waiting_octets

    def feed(self, octets: bytes) -> None:
        """More content; thrown away once the message is refused."""
        self._begin()
        if self.reply is not None:
            return
        self._size += len(octets)
        if self._header.section is None:
            section = self._header.feed(octets)
            if section is not None and not self._passes(section):
                return
        self._stream.feed(octets)

    def end(self) -> None:
        """The content is complete."""
        self._begin()
        if self.reply is None and (self._header.section is not None or self._passes(self._header.end())):
            self._stream.end()

    def abort(self, why: str) -> None:
        """The content will never be complete; nothing is stored."""
        self._stream.abort(ContentAborted(why))

    def give_up(self) -> None:
        """The store takes too long; the client is told 451 even if it may come to an end yet."""
        if self._task is not None:
            self._task.cancel()

    @property
    def is_done(self) -> bool:
        return self._task is not None and self._task.done()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._store())
            self._services.storing.add(self._task)
            self._task.add_done_callback(self._finish)

    def _passes(self, section: HeaderSection) -> bool:
        settings = self._services.settings
        refusal = section.refusal(settings.header_limits, settings.max_hops)
        if refusal is None and self._is_submission:
            refusal = submission.refusal_of(section)
        if refusal is not None:
            self.reply = refusal
            self.abort(str(refusal))
        return refusal is None

    async def _content(self, hooks: SessionHooks) -> AsyncIterator[bytes]:
        """The content, which does not come to its end when a hook refuses it then."""
        async for octets in self._stream:
            yield octets
        message = Message(
            message_id=self.message_id,
            received_at=self._received_at,
            envelope=self._envelope,
            header_section=self._header.end().octets,
            size=self._size,
        )
        self._decision = await hooks.message(self._source, self._decision.metadata, message)
        if self._decision.reply is not None:
            self.reply = self._decision.reply
            raise ContentAborted(str(self.reply))

    def _additions(self) -> Additions:
        decision, user = self._decision, self._user
        fields = decision.fields
        if self._is_submission:
            fields += submission.missing_fields(
                self._header.end(),
                decision.field_names,
                message_id=self.message_id,
                hostname=self._services.settings.hostname,
                at=self._received_at,
            )
        prepend = self._prepend + fields
        return Additions(
            prepend=prepend,
            has_utf8_header=self._envelope.smtputf8
            and not (prepend.isascii() and self._header.end().octets.isascii()),
            metadata=decision.metadata,
            priority=decision.priority or self._own_priority(),
            tenant=decision.tenant or (user.tenant if user is not None else None),
        )

    def _own_priority(self) -> Priority:
        header = self._services.settings.priority_header
        return chosen_priority(header, self._header.end(), user=self._user, is_trusted=self._is_trusted)

    async def _store(self) -> None:
        services, envelope = self._services, self._envelope
        try:
            await services.acceptance.accept(
                message_id=self.message_id,
                received_at=self._received_at,
                envelope=envelope,
                source=self._source,
                content=self._stream if self._hooks is None else self._content(self._hooks),
                additions=self._additions,
            )
        except ContentAborted as aborted:
            self._log(logging.INFO, "message not accepted: %s", aborted)
            self.reply = self.reply or replies.TROUBLE
        except Trouble as trouble:
            self._log(logging.ERROR, "message not accepted: %s: %s", type(trouble).__name__, trouble)
            self.reply = trouble.reply
        except Exception:  # whatever it is: the client hears 451 and the listener lives on
            logger.exception("message not accepted: unexpected error", extra=self._fields())
            self.reply = replies.TROUBLE
        else:
            self.reply = replies.queued(self.message_id)
            services.metrics.count("received", len(envelope.recipients))
            self._log(logging.INFO, "message accepted")

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._services.storing.discard(task)
        if task.cancelled():
            self._log(logging.ERROR, "message not accepted: storing it took too long or was cancelled")
        self.reply = self.reply or replies.TROUBLE
        self._on_done(self)

    def _log(self, level: int, message: str, *args: object) -> None:
        if logger.isEnabledFor(level):
            logger.log(level, message, *args, extra=self._fields(), stacklevel=2)

    def _fields(self) -> dict[str, object]:
        reverse_path = self._envelope.reverse_path
        return {
            "message_id": self.message_id,
            "trace_id": trace_id_of(self.message_id),
            "client": self._source.client,
            "helo": self._source.helo,
            "reverse_path": "" if reverse_path is None else str(reverse_path),
            "recipients": len(self._envelope.recipients),
            "size": self._size,
        }
