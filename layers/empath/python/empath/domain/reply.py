"""SMTP replies and enhanced status codes (RFC 5321 §4.2, RFC 3463, RFC 5248).

A reply of a next hop is a stranger's words: `Reply.heard` bounds its length and takes its control
characters out before anything else sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

MAX_HEARD_LINES = 20
MAX_HEARD_LINE = 512  # RFC 5321 §4.5.3.1.5, characters kept of each line
MAX_HEARD_OCTETS = 1024  # kept of the whole text: 100 recipients with one each fit a ledger item

# status-code = class "." subject "." detail (RFC 3463 §2)
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=$|[\s])")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")

# What a bare reply code says about itself where the next hop gave no enhanced code. RFC 5248 §2.4
# and the codes' own words in RFC 5321 §4.2.3; x.0.0 where they say nothing more.
_IMPLIED = {
    421: "4.3.2",
    450: "4.2.0",
    451: "4.3.0",
    452: "4.3.1",
    455: "4.5.4",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    521: "5.3.2",
    530: "5.7.0",
    535: "5.7.8",
    550: "5.1.0",
    551: "5.1.6",
    552: "5.2.2",
    553: "5.1.3",
    555: "5.5.4",
    556: "5.1.10",
}


@dataclass(frozen=True, slots=True)
class EnhancedStatusCode:
    """class.subject.detail of RFC 3463."""

    status_class: int
    subject: int
    detail: int

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> EnhancedStatusCode:
        """Read `5.1.1`; ValueError when it is nothing of the kind."""
        match = _STATUS.fullmatch(text)
        if match is None:
            raise ValueError(f"not an enhanced status code: {text[:40]!r}")
        return cls(*(int(part) for part in match.groups()))

    def __str__(self) -> str:
        return f"{self.status_class}.{self.subject}.{self.detail}"


def _to_status(value: Any) -> Any:
    return EnhancedStatusCode.parse(value) if isinstance(value, str) else value


StatusField = Annotated[EnhancedStatusCode, BeforeValidator(_to_status), PlainSerializer(str)]


class Reply(BaseModel):
    """A reply code, its enhanced code if it carries one, and its text without either."""

    model_config = ConfigDict(frozen=True)

    code: int
    enhanced: StatusField | None = None
    text: str = ""

    @classmethod
    def of(cls, code: int, enhanced: str | None, text: str) -> Reply:
        """A reply in our own words."""
        status = EnhancedStatusCode.parse(enhanced) if enhanced else None
        return cls(code=code, enhanced=status, text=text)

    @classmethod
    def heard(cls, code: int, text: str) -> Reply:
        """A next hop's reply: `text` is everything after the code, lines joined with LF.

        Control characters become spaces, lines and their number are bounded; a code outside 200 to
        599 counts as 451, for nothing can be made of it.
        """
        if not 200 <= code <= 599:
            return cls.of(451, "4.5.0", f"unusable reply code {code}")
        lines = re.split(r"\r\n|\r|\n", text, maxsplit=MAX_HEARD_LINES)[:MAX_HEARD_LINES]
        cleaned = [_UNPRINTABLE.sub(" ", line[:MAX_HEARD_LINE]).strip() for line in lines]
        found = _STATUS.match(cleaned[0])
        enhanced = None
        if found is not None and int(found.group(1)) == code // 100:
            enhanced = EnhancedStatusCode(*(int(part) for part in found.groups()))
            prefix = str(enhanced)
            cleaned = [line.removeprefix(prefix).lstrip() for line in cleaned]
        return cls(code=code, enhanced=enhanced, text=_bounded("\n".join(cleaned).strip("\n")))

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 400

    @property
    def is_transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return 500 <= self.code < 600

    @property
    def status(self) -> EnhancedStatusCode:
        """The enhanced code, or what the bare code implies (RFC 5248 §2.4)."""
        if self.enhanced is not None:
            return self.enhanced
        implied = _IMPLIED.get(self.code)
        if implied is not None:
            return EnhancedStatusCode.parse(implied)
        return EnhancedStatusCode({2: 2, 3: 2, 4: 4}.get(self.code // 100, 5), 0, 0)

    def __str__(self) -> str:
        """The reply on one line, as a log or a Diagnostic-Code shows it."""
        parts = [str(self.code)]
        if self.enhanced is not None:
            parts.append(str(self.enhanced))
        if self.text:
            parts.append(self.text.replace("\n", " "))
        return " ".join(parts)


def _bounded(text: str) -> str:
    octets = text.encode()
    if len(octets) <= MAX_HEARD_OCTETS:
        return text
    return octets[:MAX_HEARD_OCTETS].decode(errors="ignore")
