r"""Strangers' text in header fields: what may stand there as it is, and how the rest is written.

Everything that leaves this module is printable: US-ASCII, or UTF-8 where the caller asks for it. A character
that is not becomes `\x{HEX}`, the EmbeddedUnicodeChar of RFC 6533 §3, so CR, LF and NUL cannot end a field
that they are part of.
"""

from __future__ import annotations

import base64
import binascii
import re
from email.header import Header

MAX_LINE = 998  # RFC 5322 §2.1.1, octets without CRLF
FOLD_AT = 500
"""Characters of a line before it is folded. RFC 5322 §2.1.1 would like 78, but much that reads
reports searches for a reply line by line, and a reply of a usual length is found whole this way."""
MAX_VALUE = 4000
"""Characters kept of a field's value: a full reply (1024 octets) with every other character escaped."""

MAX_TEXT = 300
CRLF = "\r\n"
FOLD_UTF8_AT = 240
"""Of four octets each at worst."""

_UNSAFE = re.compile(r"[^\x20-\x7e]")
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that turn the direction of text could make a reply read as something else."""
_UNSAFE_UTF8 = re.compile(f"{UNPRINTABLE.pattern}|{DIRECTION.pattern}")
# A literal backslash that would read as an escape is itself escaped, so decoding is exact.
_LOOKS_ESCAPED = re.compile(r"\\(?=x\{)")
_ESCAPE = re.compile(r"\\x\{([0-9A-F]{1,6})\}")
# QCHAR = %x21-2a / %x2c-3c / %x3e-5b / %x5d-7e (RFC 6533 §3)
_NOT_QCHAR = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
# QUCHAR = UTF-8-char / QCHAR (RFC 6533 §3)
_NOT_QUCHAR = re.compile(rf"{_UNSAFE_UTF8.pattern}|[\x20+=\\]")
# hexchar = ASCII "+" immediately followed by two upper case hexadecimal digits (RFC 3461 §4)
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_RUN = re.compile(r" {2,}")
_ENCODED_WORD_OCTETS = 45  # 60 characters of base64, below the 75 of RFC 2047 §2


def field(name: str, value: str, *, utf8: bool = False) -> str:
    """`Name: value` with CRLF; folded where it is long, bounded, and never more than one field."""
    safe, fold_at = (_UNSAFE_UTF8.sub(_escape, value), FOLD_UTF8_AT) if utf8 else (escaped(value), FOLD_AT)
    text = f"{name}: {safe[:MAX_VALUE].strip()}"
    if len(text) <= fold_at:
        return text + "\r\n"
    text = _RUN.sub(" ", text)  # else a folded line could be all white space
    first = len(name) + 2
    lines = []
    while len(text) > fold_at:
        cut = text.rfind(" ", first, fold_at)
        if cut < 0:  # a word longer than a line: cut it, the reader sees one space more
            cut, text = fold_at, f"{text[:fold_at]} {text[fold_at:]}"
        lines.append(text[:cut])
        text, first = text[cut:], 1
    lines.append(text)
    return "\r\n".join(lines) + "\r\n"


def escaped(text: str) -> str:
    """Printable ASCII stays; what is not becomes an escape."""
    return _UNSAFE.sub(_escape, text)


def escaped_text(text: str) -> str:
    """Like `escaped`, and exact for free text: `unescaped` gives back the same characters."""
    return escaped(_LOOKS_ESCAPED.sub(r"\\x{5C}", text))


def unescaped(text: str) -> str:
    """The inverse of `escaped_text` and `address`."""
    return _ESCAPE.sub(_character, text)


def address(text: str, *, utf8: bool = False) -> str:
    """An address with its type: `rfc822; bob@example.com`, or one of the forms of `utf-8` (RFC 6533 §3):
    with `utf8` utf-8-addr-unitext, else the 7-bit utf-8-addr-xtext."""
    if not _UNSAFE.search(text):
        return f"rfc822; {text}"
    return f"utf-8; {_utf8_address(text, utf8=utf8)}"


def _utf8_address(text: str, *, utf8: bool) -> str:
    return (_NOT_QUCHAR if utf8 else _NOT_QCHAR).sub(_escape, text)


def original_recipient(orcpt: str, *, utf8: bool = False) -> str | None:
    """The value of Original-Recipient for an ORCPT parameter (RFC 3461 §6.3); None for a broken one.

    An address of type utf-8 may come in either form, and leaves in the one that is asked for.
    """
    kind, semicolon, value = orcpt.partition(";")
    if not semicolon or not value or not re.fullmatch(r"[A-Za-z0-9-]{1,40}", kind):
        return None
    if kind.lower() == "utf-8":
        return f"{kind};{_utf8_address(unescaped(value), utf8=utf8)}"
    return f"{kind};{decoded_xtext(value)}"


def original_address(orcpt: str) -> str | None:
    """The address of an ORCPT parameter as a person would write it; None for a broken one."""
    value = original_recipient(orcpt, utf8=True)
    return None if value is None else unescaped(value.partition(";")[2])


def decoded_xtext(text: str) -> str:
    """`text` with its hexchars decoded; as it is when that would give anything but printable ASCII."""
    plain = _HEXCHAR.sub(lambda match: chr(int(match.group(1), 16)), text)
    return text if _UNSAFE.search(plain) or plain != plain.strip() else plain


def to_value(text: str) -> str:
    """The value of a To field; an address beyond ASCII is shown as a group (RFC 6857 §3.1.8).

    So a report is plain ASCII whoever gets it, and can pass hosts that know no SMTPUTF8.
    """
    if not _UNSAFE.search(text):
        return f"<{text}>"
    words = []
    chunk = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > _ENCODED_WORD_OCTETS:
            words.append(chunk)
            chunk = b""
        chunk += octets
    words.append(chunk)
    encoded = " ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)
    return f"Internationalized address {encoded} removed:;"


def transfer_form(content: bytes) -> tuple[str, bytes]:
    """Content-Transfer-Encoding and the octets in it: `7bit` as they are, else `quoted-printable`.

    The octets end with CRLF; only CRLF is taken for a line end.
    """
    lines = content.split(b"\r\n")
    if lines[-1]:
        lines.append(b"")
    plain = content.isascii() and all(
        len(line) <= MAX_LINE and not any(octet in line for octet in (b"\r", b"\n", b"\0")) for line in lines
    )
    if plain:
        return "7bit", b"\r\n".join(lines)
    # Line by line, because b2a_qp lets a bare CR or LF through in its text mode.
    encoded = (binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in lines)
    return "quoted-printable", b"\r\n".join(encoded)


_NO_LINES = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n|[^\r\n]{999}")


def unencoded_form(content: bytes) -> str | None:
    """`7bit` or `8bit` where these octets can travel as they are (RFC 2045 §2.7, §2.8), else None.

    The one form that a message in a message may have (RFC 2046 §5.2.1).
    """
    if _NO_LINES.search(content):
        return None
    return "7bit" if content.isascii() else "8bit"


def is_utf8(octets: bytes) -> bool:
    """Whether it is UTF-8 and more than ASCII."""
    if octets.isascii():
        return False
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_field(name: str, text: str) -> str:
    """Like `field` for words in any script: beyond ASCII they are encoded words (RFC 2047)."""
    plain = " ".join(_UNSAFE_UTF8.sub(" ", text).split())[:MAX_TEXT]
    if plain.isascii():
        return field(name, plain)
    return f"{name}: {Header(plain, 'utf-8', header_name=name).encode(linesep=CRLF)}{CRLF}"


def _escape(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match.group()):02X}}}"


def _character(match: re.Match[str]) -> str:
    point = int(match.group(1), 16)
    is_character = point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF
    return chr(point) if is_character else match.group()
