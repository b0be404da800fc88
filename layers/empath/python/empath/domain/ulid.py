"""ULIDs as numbers and text: 48 bits of milliseconds, 80 bits of randomness, 26 characters.

Written here because importing the package of that name takes 40 ms, a seventh of a function's whole cold
start, for what is below (docs/decisions/021).
"""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
ULID_PATTERN = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
RANDOM_BITS = 80
LENGTH = 26

_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}


def encode_ulid(milliseconds: int, randomness: int) -> str:
    """The text of a ULID; `randomness` has at most 80 bits."""
    number = (milliseconds << RANDOM_BITS) + randomness
    return "".join([ALPHABET[number >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5)])


def decode_ulid(text: str) -> tuple[int, int]:
    """Milliseconds since the epoch, and the randomness. ValueError for what is no ULID."""
    if len(text) != LENGTH or text[0] > "7":
        raise ValueError(f"not a ULID: {text[:40]!r}")
    number = 0
    try:
        for letter in text:
            number = number << 5 | _VALUES[letter]
    except KeyError:
        raise ValueError(f"not a ULID: {text[:40]!r}") from None
    return number >> RANDOM_BITS, number & (1 << RANDOM_BITS) - 1
