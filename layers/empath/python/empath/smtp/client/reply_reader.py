"""Replies out of octets, in whatever pieces they come (RFC 5321 §4.2).

Any octets end in replies or in `is_broken`, never in an exception, and where the pieces end makes no
difference. What a next hop says is a stranger's words: `Reply.heard` cleans and bounds them.
"""

from __future__ import annotations

import re

from empath.domain.reply import Reply

MAX_LINE = 8192
"""Octets of a line with its LF. RFC 5321 §4.5.3.1.5 says 512; servers with long explanations exist."""

MAX_REPLY = 4 * MAX_LINE
"""Octets of all lines of a reply."""

# Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
# Reply-code = %x32-35 %x30-35 %x30-39, RFC 5321 §4.2. Any three digits are read, and a bare LF ends a line
# too: what such a code is worth is said by `Reply.heard`, and no command hangs on how lines end.
_LINE = re.compile(rb"([0-9]{3})(?:([ -])(.*))?", re.DOTALL)


class ReplyReader:
    """One connection's replies."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[tuple[bool, int, bytes]] = []
        self._octets = 0
        self.is_broken = False
        """Something came that is no reply; nothing after it is read."""

    @property
    def is_amid_a_reply(self) -> bool:
        return bool(self._rest or self._lines)

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that `octets` complete."""
        if self.is_broken:
            return []
        replies: list[Reply] = []
        *lines, self._rest = (self._rest + octets).split(b"\n")
        for line in lines:
            if not self._take(line):
                self.is_broken = True
                return replies
            if not self._lines[-1][0]:
                replies.append(self._end())
        if len(self._rest) >= MAX_LINE or self._octets + len(self._rest) >= MAX_REPLY:
            self.is_broken = True
        return replies

    def _take(self, line: bytes) -> bool:
        """Whether it is a line of a reply."""
        self._octets += len(line) + 1
        match = _LINE.fullmatch(line.removesuffix(b"\r"))
        if match is None or len(line) >= MAX_LINE or self._octets > MAX_REPLY:
            return False
        code, sign, text = match.groups()
        self._lines.append((sign == b"-", int(code), text or b""))
        return True

    def _end(self) -> Reply:
        # The last line's code counts, should an earlier one differ (RFC 5321 §4.2.1).
        _, code, _ = self._lines[-1]
        text = b"\n".join(text for _, _, text in self._lines)
        self._lines, self._octets = [], 0
        return Reply.heard(code, text.decode("utf-8", "surrogateescape"))
