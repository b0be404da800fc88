"""ULIDs as numbers and text: 48 bits of milliseconds, 80 bits of randomness, 26 characters.

Written here because importing the package of that name takes 40 ms, a seventh of a function's whole cold
start, for what is below (docs/decisions/021).
"""

from __future__ import annotations

import re

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
ULID_PATTERN = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
RANDOM_BITS = 80
LENGTH = 26

_ULID = re.compile(ULID_PATTERN)
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]  # ten bits a step
_AS_PYTHON_WRITES_IT = bytes.maketrans(ALPHABET.encode(), b"0123456789abcdefghijklmnopqrstuv")


def encode_ulid(milliseconds: int, randomness: int) -> str:
    """The text of a ULID; `randomness` has at most 80 bits."""
    number = (milliseconds << RANDOM_BITS) + randomness
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(5 * (LENGTH - 2), -1, -10)])


def decode_ulid(text: str) -> tuple[int, int]:
    """Milliseconds since the epoch, and the randomness. ValueError for what is no ULID."""
    if not _ULID.fullmatch(text):
        raise ValueError(f"not a ULID: {text[:40]!r}")
    number = int(text.encode().translate(_AS_PYTHON_WRITES_IT), 32)
    return number >> RANDOM_BITS, number & (1 << RANDOM_BITS) - 1
