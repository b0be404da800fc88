"""What a webhook is posted: a JSON document with the envelope, and the message in base64 as its last member.

Signed as Standard Webhooks have it (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`. The
signature goes out before the body, so the content is passed over twice, or once if it is small.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from empath.ports import Transaction

MAX_KEPT = 1_048_576
"""Octets of base64 that are kept in memory between signing and sending."""

_BLOCK = 49_152  # a multiple of 3, so that base64 needs no padding but at the end

_STANDARD_KEY = "whsec_"


def key_of(secret: str) -> bytes:
    """The key in a secret's text: behind `whsec_` it is base64, else the text itself. ValueError: neither."""
    text = secret.strip()
    if not text.startswith(_STANDARD_KEY):
        key = text.encode()
    else:
        try:
            key = base64.b64decode(text.removeprefix(_STANDARD_KEY), validate=True)
        except binascii.Error as error:
            raise ValueError("what follows whsec_ is not base64") from error
    if not key:
        raise ValueError("the key is empty")
    return key


@dataclass(frozen=True, slots=True)
class SignedBody:
    """A body, its length, and the headers that go with it."""

    transaction: Transaction
    length: int
    headers: dict[str, str]
    kept: bytes | None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body once more; raises what the content raises."""
        if self.kept is not None:
            yield self.kept
            return
        async with aclosing(_pieces(self.transaction)) as pieces:
            async for piece in pieces:
                yield piece


async def sign(transaction: Transaction, *, key: bytes, timestamp: int) -> SignedBody:
    """Go over the content and sign it; raises what the content raises."""
    signature = hmac.new(key, f"{transaction.name}.{timestamp}.".encode(), "sha256")
    kept: list[bytes] | None = []
    length = 0
    async with aclosing(_pieces(transaction)) as pieces:
        async for piece in pieces:
            signature.update(piece)
            length += len(piece)
            if kept is not None and length <= MAX_KEPT:
                kept.append(piece)
            else:
                kept = None
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(length),
        # The same whatever the attempt, so that a receiver knows what it has already.
        "Idempotency-Key": transaction.name,
        "webhook-id": transaction.name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(signature.digest()).decode("ascii"),
    }
    return SignedBody(transaction, length, headers, None if kept is None else b"".join(kept))


async def _pieces(transaction: Transaction) -> AsyncGenerator[bytes, None]:
    envelope = {
        "id": transaction.name,
        "reverse_path": transaction.reverse_path,
        "recipients": list(transaction.recipients),
        "size": transaction.size,
        "eight_bit": transaction.eight_bit,
        "smtputf8": transaction.smtputf8,
        "envid": transaction.envid,
    }
    yield json.dumps(envelope).removesuffix("}").encode() + b', "content": "'
    rest = bytearray()
    content: AsyncIterator[bytes] = transaction.content()
    try:
        async for chunk in content:
            rest += chunk
            while len(rest) >= _BLOCK:
                yield base64.b64encode(rest[:_BLOCK])
                del rest[:_BLOCK]
    finally:
        if isinstance(content, AsyncGenerator):
            await content.aclose()
    # In one piece with what makes the document whole, so that nobody takes it before that.
    yield base64.b64encode(rest) + b'"}'
