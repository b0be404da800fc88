"""BDAT (RFC 3030 §2): content in chunks whose length is told beforehand.

Nothing in a chunk ends it and no dot is taken away: so many octets are content, whatever they look like,
and the next octet is a command. What is swallowed of a refused chunk is counted in the same way.

Rules where the RFC leaves a choice:
1. BINARYMIME (§3) is not offered, so content consists of lines, and a bare CR or LF breaks it here as in
   DATA: a next hop gets it by DATA. A CR at the end of one chunk and an LF at the beginning of the next
   are one CRLF.
2. Content need not end with CRLF. The spool keeps what was sent, octet for octet; who delivers by
   DATA adds the CRLF that its final dot needs.
3. A BDAT that cannot be read ends the session: where its chunk ends nobody knows, and what is content to
   the client must never be taken for a command.
4. After a chunk was refused the rest of its sequence is swallowed and gets the same reply (§4.2 wants
   the receiver prepared for chunks that are on their way); only the first counts as an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from empath.domain.reply import Reply
from empath.smtp import replies
from empath.smtp.faults import CommandFault

# bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF    chunk-size ::= 1*DIGIT
# end-marker ::= "LAST", RFC 3030 §2. Twenty digits are RFC 1870's bound for sizes.
_ARGUMENT = re.compile(r"(?P<size>[0-9]{1,20})(?P<last> +LAST)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Chunk:
    size: int
    last: bool


def parse_bdat(argument: str) -> Chunk:
    """`chunk-size [SP "LAST"]`. The fault's reply is a 421, see the third rule above."""
    match = _ARGUMENT.fullmatch(argument)
    if match is None:
        raise CommandFault(replies.BAD_BDAT)
    return Chunk(int(match["size"]), last=match["last"] is not None)


class ChunkReader:
    """One sequence of chunks: what of it is still to come, and what is wrong with it."""

    def __init__(self) -> None:
        self.chunk = Chunk(0, last=False)
        self.remaining = 0
        """Octets of the present chunk that are still to come."""
        self.size = 0
        """Octets announced so far, those of refused chunks included."""
        self.refusal: Reply | None = None
        """What every chunk of the sequence gets from now on; None while all is well."""
        self._after_cr = False

    def begin(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.remaining = chunk.size
        self.size += chunk.size

    def feed(self, octets: bytes) -> bool:
        """Take octets of the present chunk, not more than remain; False if a CR or LF is bare."""
        self.remaining -= len(octets)
        data = b"\r" + octets if self._after_cr else octets
        self._after_cr = data.endswith(b"\r")
        pairs = data.count(b"\r\n")
        return data.count(b"\n") == pairs and data.count(b"\r") == pairs + self._after_cr

    @property
    def ends_in_cr(self) -> bool:
        return self._after_cr
