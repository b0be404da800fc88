"""What a hook returned, looked at before anything comes of it: a hook may be wrong, its mail may not.

Whatever is not what `hooks.Verdict` says is a BrokenHook, whose text tells the operator what it was.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.header import Header
from typing import Any, get_args

from empath.domain.envelope import Metadata, Priority
from empath.domain.errors import EmpathError
from empath.domain.reply import Reply
from empath.domain.user import MAX_TENANT
from empath.ingress.hooks import Verdict
from empath.smtp.limits import KIB

MAX_METADATA = 4 * KIB
"""Octets of all metadata of a message as JSON text. It is in every job and record of the message."""

MAX_METADATA_DEPTH = 20
"""pydantic writes 255 levels, other readers of JSON fewer."""

MAX_FIELDS = 8 * KIB
"""Octets of all header fields that hooks add to a message: they travel in a queue's job."""

MAX_REPLY_TEXT = 400
"""Characters: a reply line has 512 octets (RFC 5321 §4.5.3.1.5)."""

_USUAL_LINE = 78  # RFC 5322 §2.1.1
_LONGEST_LINE = 998


class BrokenHook(EmpathError):
    """A hook that did not do what a hook may do; the text says what."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What all hooks of one kind together want."""

    reply: Reply | None = None
    metadata: Metadata = field(default_factory=dict)
    """All that is set by now."""
    fields: str = ""
    """Header fields, folded, with CRLF line ends."""
    field_names: tuple[bytes, ...] = ()
    """In lower case."""
    priority: Priority | None = None
    tenant: str | None = None

    def joined_by(self, returned: object, *, adds: bool) -> Decision:
        """With what one more hook returned, which `adds` to a message or may not. Raises BrokenHook."""
        if returned is None:
            return self
        if not isinstance(returned, Verdict):
            if inspect.iscoroutine(returned):
                returned.close()
            raise BrokenHook(f"returned {type(returned).__name__} where None or a Verdict is due")
        if returned.reply is not None:
            return Decision(reply=_checked_reply(returned.reply), metadata=self.metadata)
        if not adds and (returned.headers or returned.priority is not None or returned.tenant is not None):
            raise BrokenHook("only a message hook has a say on header fields, priority and tenant")
        named = [_field(pair) for pair in returned.headers]
        fields = self.fields + "".join(text for _, text in named)
        if len(fields) > MAX_FIELDS:
            raise BrokenHook(f"more than {MAX_FIELDS} octets of header fields")
        return Decision(
            metadata=joined_metadata(self.metadata, returned.metadata),
            fields=fields,
            field_names=(*self.field_names, *(name for name, _ in named)),
            priority=self.priority if returned.priority is None else _checked_priority(returned.priority),
            tenant=self.tenant if returned.tenant is None else _checked_tenant(returned.tenant),
        )


def joined_metadata(known: Metadata, new: Mapping[str, Any]) -> Metadata:
    """Both, `new` first where they disagree. Raises BrokenHook for what JSON does not give back as it was."""
    if not new:
        return known
    if not isinstance(new, Mapping):
        raise BrokenHook(f"metadata is {type(new).__name__}, not a dict")
    joined = {**known, **new}
    try:
        text = json.dumps(joined, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
        read: Metadata = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise BrokenHook(f"metadata is not JSON: {error}") from None
    if read != joined:
        raise BrokenHook("metadata is not JSON: keys must be strings, and tuples are lists there")
    if size > MAX_METADATA:
        raise BrokenHook(f"metadata is longer than {MAX_METADATA} octets")
    if _depth(read) > MAX_METADATA_DEPTH:
        raise BrokenHook(f"metadata is deeper than {MAX_METADATA_DEPTH} levels")
    return read


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _checked_reply(reply: object) -> Reply:
    if not isinstance(reply, Reply):
        raise BrokenHook(f"the reply is {type(reply).__name__}, not a Reply")
    if not 400 <= reply.code <= 599:
        raise BrokenHook(f"the reply {reply.code} is no refusal")
    if reply.enhanced is None or reply.enhanced.status_class != reply.code // 100:
        raise BrokenHook(f"the reply {reply.code} needs an enhanced code of its class, not {reply.enhanced}")
    if not (reply.text.isascii() and reply.text.isprintable() and len(reply.text) <= MAX_REPLY_TEXT):
        raise BrokenHook(f"the reply's text is not one line of at most {MAX_REPLY_TEXT} ASCII characters")
    return reply


def _checked_priority(priority: object) -> Priority:
    for known in get_args(Priority):
        if priority == known:
            checked: Priority = known
            return checked
    raise BrokenHook(f"there is no priority {priority!r:.40}")


def _checked_tenant(tenant: object) -> str:
    if not isinstance(tenant, str) or not tenant.isprintable() or tenant != tenant.strip():
        raise BrokenHook("a tenant is printable text")
    if not 1 <= len(tenant) <= MAX_TENANT:
        raise BrokenHook(f"a tenant has 1 to {MAX_TENANT} characters")
    return tenant


# field-name = 1*ftext    ftext = %d33-57 / %d59-126    (RFC 5322 §3.6.8)
_NAME = re.compile(r"[!-9;-~]{1,76}")
_PIECES = re.compile(r"[ \t]*[^ \t]+")


def _field(pair: object) -> tuple[bytes, str]:
    """A header field's name in lower case, and the field: folded, with CRLF, and one field for certain."""
    if not isinstance(pair, tuple | list) or [type(part) for part in pair] != [str, str]:
        raise BrokenHook("a header field is a pair of strings, name and value")
    name, value = pair
    if _NAME.fullmatch(name) is None:
        raise BrokenHook(f"{name!r:.90} is no name of a header field")
    value = value.strip(" \t")
    if not value.replace("\t", " ").isprintable():
        raise BrokenHook(f"the value of {name} has a control character")
    if len(value) > MAX_FIELDS:
        raise BrokenHook(f"more than {MAX_FIELDS} octets of header fields")
    text = _folded(name, value) if value.isascii() else _encoded(name, value)
    if any(len(line) > _LONGEST_LINE for line in text.split("\r\n")):
        raise BrokenHook(f"the value of {name} cannot be folded to lines of {_LONGEST_LINE} octets")
    return name.lower().encode(), text


def _folded(name: str, value: str) -> str:
    """Lines end in front of white space only: unfolding gives the value back (RFC 5322 §2.2.3)."""
    lines = [f"{name}: "]
    for number, piece in enumerate(_PIECES.findall(value)):
        if number and len(lines[-1]) + len(piece) > _USUAL_LINE:
            lines.append(piece)
        else:
            lines[-1] += piece
    return "\r\n".join(lines) + "\r\n"


def _encoded(name: str, value: str) -> str:
    """As encoded words (RFC 2047), which every next hop takes."""
    words = Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
    return f"{name}: {words}\r\n"
