"""What a client may ask about reports: RET, ENVID, NOTIFY and ORCPT (RFC 3461 §4, RFC 6533 §3).

ENVID and ORCPT are kept as they were written, in xtext, which is how a next hop and a report want them;
what they decode to is checked here, because both end up in header fields of a report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from empath.smtp import replies
from empath.smtp.extensions import Extension
from empath.smtp.faults import CommandFault
from empath.smtp.limits import Limits

MAX_ENVID = 100  # RFC 3461 §4.4
MAX_ORCPT = 500  # RFC 3461 §4.2

# xtext = *( xchar / hexchar )    xchar = any ASCII CHAR between "!" and "~" except "+" and "="
# hexchar = "+" immediately followed by two upper case hexadecimal digits, RFC 3461 §4
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")

# addr-type = Atom, RFC 3461 §4.2
_ADDR_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]{1,40}")

# utf-8-addr-xtext = 1*( QCHAR / EmbeddedUnicodeChar ), RFC 6533 §3; with octets beyond ASCII as they are it
# is utf-8-addr-unitext. QCHAR is printable ASCII without "+", "=" and "\".
# EmbeddedUnicodeChar = %x5C.78 "{" HEXPOINT "}", of two to six upper case digits
_UTF8_ADDRESS = re.compile(
    r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e\u00a0-\U0010ffff]|\\x\{(?P<point>[0-9A-F]{2,6})\})+"
)
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")

_EVENTS = ("SUCCESS", "FAILURE", "DELAY")


def _read_ret(value: str | None, limits: Limits) -> Mapping[str, Any]:
    # ret-value = "FULL" / "HDRS", RFC 3461 §4.3
    ret = (value or "").upper()
    if ret not in {"FULL", "HDRS"}:
        raise CommandFault(replies.bad_parameter("RET"))
    return {"ret": ret}


def _read_envid(value: str | None, limits: Limits) -> Mapping[str, Any]:
    # envid-parameter = "ENVID=" xtext, RFC 3461 §4.4
    if value is None or len(value) > MAX_ENVID or not _is_printable_xtext(value):
        raise CommandFault(replies.bad_parameter("ENVID"))
    return {"envid": value}


def _read_notify(value: str | None, limits: Limits) -> Mapping[str, Any]:
    # notify-esmtp-value = "NEVER" / 1#notify-list-element, RFC 3461 §4.1; NEVER stands alone
    words = tuple((value or "").upper().split(","))
    is_list = all(word in _EVENTS for word in words) and len(set(words)) == len(words)
    if not (is_list or words == ("NEVER",)):
        raise CommandFault(replies.bad_parameter("NOTIFY"))
    return {"notify": words}


def _read_orcpt(value: str | None, limits: Limits) -> Mapping[str, Any]:
    # original-recipient-address = addr-type ";" xtext, RFC 3461 §4.2
    kind, semicolon, address = (value or "").partition(";")
    is_readable = _is_utf8_address if kind.lower() == "utf-8" else _is_printable_xtext
    if (
        value is None
        or len(value.encode()) > MAX_ORCPT
        or not semicolon
        or not _ADDR_TYPE.fullmatch(kind)
        or not is_readable(address)
    ):
        raise CommandFault(replies.bad_parameter("ORCPT"))
    return {"orcpt": value}


def _is_printable_xtext(text: str) -> bool:
    """Whether it is xtext and encodes printable ASCII (RFC 3461 §4.2 and §4.4 allow no other)."""
    if not _XTEXT.fullmatch(text):
        return False
    return bool(_PRINTABLE.fullmatch(_HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text)))


def _is_utf8_address(text: str) -> bool:
    if not _UTF8_ADDRESS.fullmatch(text):
        return False
    return all(_is_embeddable(int(digits, 16)) for digits in _EMBEDDED.findall(text))


def _is_embeddable(point: int) -> bool:
    """HEXPOINT of RFC 6533 §3: "+", "=", "\\\\", SP, and what is beyond ASCII; no control, no surrogate."""
    if point in {0x20, 0x2B, 0x3D, 0x5C}:
        return True
    return 0xA0 <= point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF and point not in {0x2028, 0x2029}


DSN = Extension(  # RFC 3461
    "DSN",
    mail={"RET": _read_ret, "ENVID": _read_envid},
    rcpt={"NOTIFY": _read_notify, "ORCPT": _read_orcpt},
)
"""Not in STANDARD: who offers it promises the reports that NOTIFY asks for (RFC 3461 §5)."""
