"""The header section of a message, found while the content streams in, and the limits that it must keep.

A section ends before the empty line, or before the first line that is neither a field nor the folded
rest of one (RFC 5322 §2.2): that line is body, as for Postfix and sendmail. Only CRLF ends a line.
Whatever the octets are and wherever chunks end, the same section comes out, and no exception.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from empath.domain.reply import Reply
from empath.ingress import replies
from empath.smtp.limits import KIB


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """Beyond these a message is refused. Postfix and sendmail cut the header off and send on a message that
    nobody wrote; here content is never changed."""

    max_octets: int = 256 * KIB
    """Of the whole section. sendmail's MaxHeadersLength is 32 KiB, Exim's header_maxsize 1 MiB, and
    Exchange's MaxHeaderSize 256 KiB. That much is held of a session until its header section is over."""

    max_field: int = 100 * KIB
    """Octets of one field, folding and final CRLF included: Postfix's header_size_limit."""

    max_fields: int = 1000
    """Ours: mail that went through lists, filters and ARC seals has a hundred or two."""


DEFAULT_LIMITS = HeaderLimits()


class HeaderSection:
    """A header section that is whole, or that is known to be too long."""

    __slots__ = ("_is_too_long", "_names", "octets")

    def __init__(self, octets: bytes, *, is_too_long: bool = False) -> None:
        self.octets = octets
        """Byte-exact, with the CRLF of the last field; without the empty line."""
        self._is_too_long = is_too_long
        self._names: list[bytes] | None = None

    @property
    def names(self) -> list[bytes]:
        """The name of each field in lower case, in order."""
        if self._names is None:
            self._names = _NAME.findall(b"\r\n" + self.octets.lower())
        return self._names

    def count(self, name: bytes) -> int:
        """How many fields have this name, given in lower case."""
        return self.names.count(name)

    def value(self, name: bytes) -> bytes | None:
        """The value of the field with this name (in lower case), unfolded; None unless exactly one has it."""
        if self.count(name) != 1:
            return None
        octets = b"\r\n" + self.octets
        begin = re.search(rb"\r\n" + re.escape(name) + rb"[ \t]*+:", octets, re.IGNORECASE)
        assert begin is not None  # noqa: S101 (it was counted)
        end = _FIELD_ENDS.search(octets, begin.end())
        body = octets[begin.end() : end.start() if end else len(octets)]
        return body.replace(b"\r\n", b"").strip(b" \t")

    def refusal(self, limits: HeaderLimits, max_hops: int) -> Reply | None:
        """The reply to a message whose header section is beyond a limit."""
        octets = self.octets
        if self._is_too_long:
            return _beyond(552, "5.3.4", f"Header section is longer than {limits.max_octets} octets")
        # Nearly all sections are too short, or too poor in that word, to reach a limit: nothing else is
        # looked at then.
        if (
            len(octets) // _MIN_HOP > max_hops
            and octets.lower().count(_RECEIVED) > max_hops
            and self.count(_RECEIVED) > max_hops
        ):
            return replies.TOO_MANY_HOPS
        if len(octets) // _MIN_FIELD > limits.max_fields and len(self.names) > limits.max_fields:
            return _beyond(554, "5.6.0", f"More than {limits.max_fields} header fields")
        if len(octets) > limits.max_field and self._longest_field() > limits.max_field:
            return _beyond(552, "5.3.4", f"A header field is longer than {limits.max_field} octets")
        return None

    def _longest_field(self) -> int:
        starts = [0, *(match.end() for match in _FIELD_ENDS.finditer(self.octets)), len(self.octets)]
        return max(end - start for start, end in pairwise(starts))


class HeaderReader:
    """Takes content until its header section is over; of what it is fed later it knows nothing."""

    __slots__ = ("_held", "_looked_at", "_max_octets", "_window", "section")

    def __init__(self, max_octets: int = DEFAULT_LIMITS.max_octets) -> None:
        self.section: HeaderSection | None = None
        self._max_octets = max_octets
        self._window = max_octets + 2  # an empty line right behind the limit still ends the section
        self._held: bytes | bytearray = b""
        self._looked_at = 0  # the CRLF in front of the last line, or 0

    def feed(self, octets: bytes) -> HeaderSection | None:
        """The section, once it is over; then there is no need to feed any more."""
        if self.section is not None:
            return self.section
        if not self._held:
            self._held = octets  # the usual message is here at once, and not copied
        else:
            if not isinstance(self._held, bytearray):
                self._held = bytearray(self._held)
            self._held += octets
        held, window = self._held, self._window
        if len(held) >= window:
            return self._decide()
        if b"\n" in octets:
            end = self._first_line_that_is_no_field()
            if end is not None and held.find(b"\r\n", end) >= 0:
                return self._over(end)
            self._looked_at = max(held.rfind(b"\r\n"), 0)
        return None

    def end(self) -> HeaderSection:
        """The content is over, and with it the section."""
        return self.section or self._decide()

    def _decide(self) -> HeaderSection:
        """From what there is: all of the content, or as much as is ever looked at."""
        held = self._held
        end = self._first_line_that_is_no_field()
        if end is None:
            return self._over(min(len(held), self._window))
        if len(held) >= self._window and _BEGUN_FIELD.fullmatch(held, end, self._window):
            return self._over(self._window)  # as far as anybody can tell, a field that does not end in time
        return self._over(end)

    def _over(self, end: int) -> HeaderSection:
        is_too_long = end > self._max_octets
        octets = b"" if is_too_long else bytes(self._held[:end])
        self._held = b""
        self.section = HeaderSection(octets, is_too_long=is_too_long)
        return self.section

    def _first_line_that_is_no_field(self) -> int | None:
        """Where it begins, within what is looked at; a line that is not all here counts as it is."""
        if not self._looked_at and _FIELD.match(self._held, 0, self._window) is None:
            return 0
        found = _NO_FIELD.search(self._held, self._looked_at, self._window)
        return None if found is None else found.end()


# field-name = 1*ftext    ftext = %d33-57 / %d59-126    (RFC 5322 §3.6.8)
# White space before the colon is obs-optional (RFC 5322 §4.5). A name without end is none: a line
# has 998 octets (RFC 5322 §2.1.1).
_FIELD = re.compile(rb"[!-9;-~]{1,997}+[ \t]*+:")
_NO_FIELD = re.compile(rb"\r\n(?![!-9;-~]{1,997}+[ \t]*+:|[ \t])")
_BEGUN_FIELD = re.compile(rb"[!-9;-~]{0,997}+[ \t]*+")
_NAME = re.compile(rb"\r\n([!-9;-~]{1,997}+)[ \t]*+:")
_FIELD_ENDS = re.compile(rb"\r\n(?![ \t])")

FIELD_NAME = re.compile(rb"[!-9;-~]{1,997}")

_MIN_FIELD = len(b"a:\r\n")
_RECEIVED = b"received"
_MIN_HOP = len(b"received:\r\n")


def _beyond(code: int, enhanced: str, text: str) -> Reply:
    # X.3.4 is "message too big for system", X.6.0 "other or undefined media error" (RFC 3463 §3.4, §3.7).
    return Reply.of(code, enhanced, text)
