"""What every session has: a state, input that waits, events and replies that go out, and an end.

Knows neither commands nor content; `content.py` adds the one and `server.py` the other.
"""

from __future__ import annotations

from collections import deque

from empath.domain.reply import Reply
from empath.smtp import events, replies
from empath.smtp.events import Decidable, EndCause, Event
from empath.smtp.input_buffer import InputBuffer
from empath.smtp.limits import Limits
from empath.smtp.state import TRANSITIONS, State, Step


class Session:
    def __init__(self, limits: Limits) -> None:
        self.state = State.CONNECTED
        self._limits = limits
        self._input = InputBuffer(limits.max_command_line)
        self._output: list[bytes] = []
        self._events: deque[Event] = deque()
        self._awaiting: Decidable | None = None
        self._errors = 0

    # What the owner does

    def receive(self, octets: bytes) -> None:
        """Take octets from the client; nothing happens before `next_event`."""
        if self.state is not State.CLOSED:
            self._input.append(octets)

    def end(self, reply: Reply) -> None:
        """Say `reply` (a 421) whatever the client is doing, and end the session."""
        if self.state is not State.CLOSED:
            self._close(reply, EndCause.BY_OWNER)

    def replies(self) -> bytes:
        """The replies since the last call, in one piece."""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else b"".join(output)

    @property
    def awaiting(self) -> Decidable | None:
        """The event that waits for a decision."""
        return self._awaiting

    @property
    def waiting_octets(self) -> int:
        """Octets received that no event has come of yet."""
        return len(self._input)

    # Steps that all commands share

    def _advance(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state, step]

    def _ask(self, event: Decidable) -> None:
        self._awaiting = event
        self._events.append(event)

    def _fail(self, reply: Reply) -> None:
        self._events.append(events.CommandRefused(reply))
        self._say(reply)

    def _say(self, reply: Reply) -> None:
        if reply.code == 421:  # RFC 5321 §3.8
            self._close(reply, EndCause.BY_OWNER)
            return
        if reply.is_permanent:
            self._errors += 1
            if self._errors >= self._limits.max_errors:
                self._close(replies.TOO_MANY_ERRORS, EndCause.TOO_MANY_ERRORS)
                return
        self._write(reply)

    def _write(self, reply: Reply) -> None:
        self._output.append(replies.encode(reply))

    def _close(self, reply: Reply, cause: EndCause) -> None:
        self._awaiting = None
        self._input.clear()
        self._write(reply)
        self._advance(Step.CLOSE)
        self._events.append(events.SessionEnds(cause))
