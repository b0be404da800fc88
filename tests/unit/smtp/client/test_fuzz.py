"""Whatever a next hop sends, every recipient has an outcome, and it is true.

Two suites: any octets at all, whole and octet by octet; and a next hop that keeps to the protocol, takes
or refuses as it likes, and whose connection is lost anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from empath.domain.outcome import Sent
from empath.smtp.client import BLOCK, MailTransaction, Offer, Want
from empath.smtp.client.verdicts import lost
from tests.unit.smtp.client.talking import ANN, BOB, CONTENT, OFFERS, mail

LARGE = (b"x" * 62 + b"\r\n") * 1500
offers = st.sampled_from(sorted(OFFERS)).map(OFFERS.__getitem__)
contents = st.sampled_from([CONTENT, CONTENT, LARGE])

lines = st.sampled_from(
    [
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"250-a\r\n250 b\r\n",
        b"354 go\r\n",
        b"550 5.1.1 no\r\n",
        b"450 later\r\n",
        b"552 too many\r\n",
        b"503 order\r\n",
        b"421 bye\r\n",
        b"399 what\r\n",
        b"250 part",
        b"250-",
        b"\r\n",
        b"\x00\xff\r\n",
    ]
)
batches = st.one_of(st.lists(lines, max_size=6).map(b"".join), st.binary(max_size=30))


def drive(
    core: MailTransaction, content: bytes, heard: Iterator[bytes], *, by_octet: bool
) -> tuple[bytes, object]:
    """Everything that was sent, and everything that can be known about the end."""
    blocks = iter([content[begin : begin + BLOCK] for begin in range(0, len(content) + 1, BLOCK)])
    sent = core.take_output()
    while (want := core.wants) is not Want.NOTHING:
        if want is Want.CONTENT:
            block = next(blocks)
            core.give_content(block, last=len(block) < BLOCK)
        elif (batch := next(heard, None)) is None:
            core.fail(lost("a reply"))
        else:
            for piece in (batch[at : at + 1] for at in range(len(batch))) if by_octet else (batch,):
                core.receive(piece)
        sent += core.take_output()
    return sent, (core.outcomes, core.is_ambiguous, core.is_broken, core.needs_reset, core.breach)


@settings(max_examples=400)
@given(offer=offers, content=contents, heard=st.lists(batches, max_size=8), reset=st.booleans())
def test_any_octets_end_in_outcomes_and_their_pieces_make_no_difference(
    offer: Offer, content: bytes, heard: list[bytes], reset: bool
) -> None:
    envelope = mail(size=len(content))
    core = MailTransaction(envelope, offer, reset=reset, chunk=BLOCK)
    sent, end = drive(core, content, iter(heard), by_octet=False)
    split = MailTransaction(envelope, offer, reset=reset, chunk=BLOCK)
    assert drive(split, content, iter(heard), by_octet=True) == (sent, end)

    assert set(core.outcomes) == {ANN, BOB}
    is_whole = content in sent or b"..Hello\r\n.\r\n" in sent or b" LAST\r\n" in sent or b"\r\n.\r\n" in sent
    if core.is_ambiguous or any(isinstance(outcome, Sent) for outcome in core.outcomes.values()):
        assert is_whole
    # Silence makes nothing certain: only words of the next hop, or none of ours, end in a failure.
    if not heard:
        assert {outcome.reply.code for outcome in core.outcomes.values()} == {451}


@dataclass
class NextHop:
    """Keeps to the protocol; `codes` decide, in order, what it says to each command that it may take."""

    codes: Iterator[int]
    is_in_mail: bool = False
    recipients: list[str] = field(default_factory=list)
    taken: list[tuple[str, ...]] = field(default_factory=list)
    content: bytes = b""
    is_spoilt: bool = False
    _unread: bytes = b""
    _is_in_data: bool = False

    def hear(self, octets: bytes) -> bytes:
        self._unread += octets
        replies = b""
        while (code := self._next()) is not None:
            replies += b"%d said\r\n" % code
        return replies

    def _next(self) -> int | None:
        if self._is_in_data:
            found = (b"\r\n" + self._unread).find(b"\r\n.\r\n")
            if found < 0:
                return None
            self.content, self._unread = self._unread[:found], self._unread[found + 3 :]
            self._is_in_data = False
            return self._end()
        line, end, rest = self._unread.partition(b"\r\n")
        if not end:
            return None
        chunk = re.fullmatch(rb"BDAT (\d+)( LAST)?", line)
        if chunk:
            size = int(chunk[1])
            if len(rest) < size:
                return None
            self.content += rest[:size]
            self._unread = rest[size:]
            return self._chunk(is_last=chunk[2] is not None)
        self._unread = rest
        return self._command(line)

    def _command(self, line: bytes) -> int:
        verb = line[:4]
        if verb == b"RSET":
            self._reset()
            return 250
        code = next(self.codes, 250)
        if verb == b"MAIL" and not self.is_in_mail:
            self.is_in_mail = code == 250
            return code
        if verb == b"RCPT" and self.is_in_mail:
            if code == 250:
                self.recipients.append(line[9:-1].decode())
            return code
        if verb == b"DATA" and self.is_in_mail:
            if code == 250:  # also when nobody was accepted (RFC 2920 §3.1)
                self._is_in_data = True
                return 354
            return code
        return 503

    def _chunk(self, *, is_last: bool) -> int:
        if self.is_spoilt or not self.recipients:
            return 503
        if is_last:
            return self._end()
        code = next(self.codes, 250)
        self.is_spoilt = code != 250
        return code

    def _end(self) -> int:
        code = next(self.codes, 250)
        if not self.recipients:
            code = 554
        elif code == 250:
            self.taken.append(tuple(self.recipients))
        self._reset()
        return code

    def _reset(self) -> None:
        self.is_in_mail, self.recipients, self.is_spoilt = False, [], False


@settings(max_examples=600)
@given(
    offer=offers,
    content=contents,
    codes=st.lists(st.sampled_from([250, 250, 250, 550, 450, 552, 554]), max_size=8),
    lost_after=st.one_of(st.none(), st.integers(0, 60)),
)
def test_the_outcomes_are_what_the_next_hop_did_unless_they_are_said_to_be_ambiguous(
    offer: Offer, content: bytes, codes: list[int], lost_after: int | None
) -> None:
    core = MailTransaction(mail(size=len(content)), offer, chunk=BLOCK)
    hop = NextHop(iter(codes))
    blocks = iter([content[begin : begin + BLOCK] for begin in range(0, len(content) + 1, BLOCK)])
    room = lost_after
    while (want := core.wants) is not Want.NOTHING:
        if want is Want.CONTENT:
            block = next(blocks)
            core.give_content(block, last=len(block) < BLOCK)
        replies = hop.hear(core.take_output())
        if room is not None:
            replies, room = replies[:room], room - min(room, len(replies))
        if replies:
            core.receive(replies)
        elif core.wants is Want.REPLY:
            core.fail(lost("a reply"))
    hop.hear(core.take_output())

    sent = {address for address, outcome in core.outcomes.items() if isinstance(outcome, Sent)}
    took = {address for recipients in hop.taken for address in recipients}
    assert set(core.outcomes) == {ANN, BOB}
    assert len(hop.taken) <= 1
    assert sent <= took
    if not core.is_ambiguous:
        assert sent == took
    else:
        assert core.is_broken
        assert lost_after is not None
    if lost_after is None:
        assert not core.is_broken
        assert core.breach is None
    if took:
        assert hop.content.removesuffix(b"\r\n") == _on_the_wire(content, offer).removesuffix(b"\r\n")


def _on_the_wire(content: bytes, offer: Offer) -> bytes:
    """With the dots of DATA doubled, as `NextHop` keeps it."""
    is_chunked = "CHUNKING" in offer and ("PIPELINING" in offer or len(content) < BLOCK)
    return content if is_chunked else content.replace(b"\r\n.", b"\r\n..")
