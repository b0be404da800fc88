"""A session that takes content: by DATA up to its final dot, or in chunks by BDAT.

Whatever is wrong with content is told after all of it was taken, so that no octet of it is ever read
as a command. What has to be read for that has a bound (`Limits.max_raw_octets`).
"""

from __future__ import annotations

from enum import Enum, auto

from empath.domain.envelope import Envelope
from empath.domain.reply import Reply
from empath.smtp import events, replies
from empath.smtp.chunking import Chunk, ChunkReader
from empath.smtp.data_reader import DataReader
from empath.smtp.events import EndCause
from empath.smtp.limits import Limits
from empath.smtp.session import Session
from empath.smtp.state import State, Step


class Input(Enum):
    """What the next octets are."""

    __hash__ = object.__hash__  # as State's

    COMMAND = auto()
    CONTENT = auto()
    CHUNK = auto()
    RESPONSE = auto()
    """Of the client, within AUTH."""


class ContentSession(Session):
    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._expects = Input.COMMAND
        self._reader = DataReader()
        self._chunks = ChunkReader()
        self._message_is_broken = False

    @property
    def is_in_content(self) -> bool:
        """Whether the next octets are content, not a command."""
        return self._expects in _CONTENT

    # DATA (RFC 5321 §4.1.1.4)

    def _begin_content(self) -> None:
        self._reader = DataReader()
        self._message_is_broken = False
        self._expects = Input.CONTENT
        self._advance(Step.CONTENT)
        self._write(replies.START_CONTENT)

    def _read_content(self) -> bool:
        octets = self._input.take_all()
        if not octets:
            return False
        reader = self._reader
        room = self._limits.max_raw_octets - reader.raw_octets
        content, rest = reader.feed(octets[:room])
        if (reader.has_bare_newline or reader.size > self._limits.max_size) and not self._message_is_broken:
            self._message_is_broken = True
            self._events.append(events.MessageBroken())
        if content and not self._message_is_broken:
            self._events.append(events.ContentChunk(content))
        if reader.ended:
            self._input.append(rest + octets[room:])
            self._end_content()
        elif len(octets) > room:
            self._close(replies.TOO_MUCH_INPUT, EndCause.TOO_MUCH_INPUT)
        return True

    def _end_content(self) -> None:
        self._expects = Input.COMMAND
        if not self._message_is_broken:
            self._ask(events.MessageEnds(self._reader.size))
            return
        self._advance(Step.RESET)
        bare = self._reader.has_bare_newline
        self._fail(replies.BARE_NEWLINE_IN_CONTENT if bare else replies.MESSAGE_TOO_BIG)

    # BDAT (RFC 3030 §2)

    def _begin_chunk(self, chunk: Chunk, out_of_order: Reply | None, envelope: Envelope | None) -> None:
        """A chunk was announced; `envelope` is there when it is the first one of a message."""
        if self.state not in _WITHIN_CHUNKS:
            self._chunks = ChunkReader()
        chunks = self._chunks
        chunks.begin(chunk)
        if chunks.size > self._limits.max_raw_octets:
            self._close(replies.TOO_MUCH_INPUT, EndCause.TOO_MUCH_INPUT)
        elif chunks.refusal is None and out_of_order is not None:
            self._refuse_chunk(out_of_order)
        elif chunks.refusal is None and chunks.size > self._limits.max_size:
            self._refuse_chunk(replies.MESSAGE_TOO_BIG)  # said once its octets are here
        elif envelope is not None:
            self._ask(events.MessageBegins(envelope, in_chunks=True))
        else:
            self._expect_chunk()

    def _begin_chunks(self) -> None:
        """The owner wants the message whose first chunk was announced."""
        self._advance(Step.CHUNKS)
        self._expect_chunk()

    def _refuse_chunk(self, reply: Reply) -> None:
        """Swallow the chunk that was announced, then say `reply`."""
        self._abandon_chunks()
        self._chunks.refusal = reply
        self._expect_chunk()

    def _expect_chunk(self) -> None:
        self._expects = Input.CHUNK
        if not self._chunks.remaining:
            self._end_chunk()

    def _read_chunk(self) -> bool:
        chunks = self._chunks
        octets = self._input.take(chunks.remaining)
        if not octets:
            return False
        has_lines = chunks.feed(octets)
        if chunks.refusal is None:
            if has_lines:
                self._events.append(events.ContentChunk(octets))
            else:
                self._break_chunks()
        if not chunks.remaining:
            self._end_chunk()
        return True

    def _end_chunk(self) -> None:
        self._expects = Input.COMMAND
        chunks, last = self._chunks, self._chunks.chunk.last
        if chunks.refusal is None and last and chunks.ends_in_cr:
            self._break_chunks()
        if chunks.refusal is not None:
            is_first = self.state is not State.SPOILT
            self._advance(Step.RESET if last else Step.SPOIL)
            if is_first:
                self._fail(chunks.refusal)
            else:
                self._write(chunks.refusal)
        elif last:
            self._ask(events.MessageEnds(chunks.size))
        else:
            self._write(replies.chunk_taken(chunks.chunk.size))

    def _break_chunks(self) -> None:
        self._abandon_chunks()
        self._chunks.refusal = replies.BARE_NEWLINE_IN_CONTENT

    def _abandon_chunks(self) -> None:
        """What came of a message so far is not wanted any more, if there is any."""
        if self.state is State.CHUNKS and self._chunks.refusal is None:
            self._events.append(events.MessageBroken())

    def _close(self, reply: Reply, cause: EndCause) -> None:
        if self._awaiting is None:  # a message that waits for its decision is complete, not broken
            self._abandon_chunks()
        self._expects = Input.COMMAND
        super()._close(reply, cause)


_CONTENT = frozenset({Input.CONTENT, Input.CHUNK})
_WITHIN_CHUNKS = frozenset({State.CHUNKS, State.SPOILT})
