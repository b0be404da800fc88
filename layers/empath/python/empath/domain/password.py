"""Passwords as they are kept: scrypt (RFC 7914) in a text that says how it was made.

    $scrypt$ln=14,r=8,p=5$<salt>$<hash>

The form of the PHC string format, which passlib and others write too, so that hashes made elsewhere can be
brought along. Salt and hash are base64 without padding. Whoever hashes brings the salt: nothing here is
random.

The cost is one of those that OWASP's Password Storage Cheat Sheet names as equal in strength (N=2^17 p=1,
2^16 p=2, 2^15 p=3, 2^14 p=5, 2^13 p=10, each with r=8). On the machine where the figures of this project were
measured they take 251, -, 149, 105 and - ms of CPU, and 128, 64, 32, 16 and 8 MiB while they last: 2^14 is
the least work that leaves memory in the attacker's bill. scrypt and not argon2, for it is in the standard
library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass

from empath.domain.errors import UnreadablePasswordHash

MAX_MEMORY = 64 << 20
"""Octets that one hash may take, whatever its text asks for: an item may be wrong, or somebody else's."""

MAX_WORK = 1 << 20
"""N * r * p of one hash at most: 1.6 times the default's; some 250 ms."""

MIN_SALT, MAX_SALT = 8, 64
MIN_HASH, MAX_HASH = 16, 64
MAX_TEXT = 256

HASH_OCTETS = 32
SALT_OCTETS = 16
"""What a new salt should have (NIST SP 800-132 §5.1)."""

# $scrypt$ln=<log2 N>,r=<block size>,p=<parallelism>$<salt>$<hash>
_TEXT = re.compile(
    r"\$scrypt\$ln=([1-9][0-9]?),r=([1-9][0-9]{0,2}),p=([1-9][0-9]{0,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """scrypt's parameters: 2**ln blocks of 128 * r octets, gone through p times."""

    ln: int = 14
    r: int = 8
    p: int = 5

    @property
    def memory(self) -> int:
        """Octets in use while a password is hashed."""
        return 128 * self.r << self.ln

    @property
    def is_bearable(self) -> bool:
        return self.memory <= MAX_MEMORY and (1 << self.ln) * self.r * self.p <= MAX_WORK


DEFAULT_COST = Cost()


@dataclass(frozen=True, slots=True)
class _Parts:
    cost: Cost
    salt: bytes
    digest: bytes


def hash_password(password: str, salt: bytes, cost: Cost = DEFAULT_COST) -> str:
    """The text that is kept in place of `password`. ValueError for a salt or a cost out of bounds."""
    if not MIN_SALT <= len(salt) <= MAX_SALT:
        raise ValueError(f"a salt has {MIN_SALT} to {MAX_SALT} octets")
    if not cost.is_bearable:
        raise ValueError(f"{cost} is more than this project takes upon itself")
    return encode(cost, salt, _digest(password, salt, cost, HASH_OCTETS))


def verify_password(password: str, encoded: str) -> bool:
    """Whether `encoded` was made of `password`; the time it takes does not depend on the answer.

    Raises UnreadablePasswordHash, before anything is computed.
    """
    parts = _read(encoded)
    return hmac.compare_digest(_digest(password, parts.salt, parts.cost, len(parts.digest)), parts.digest)


def check_encoded(encoded: str) -> None:
    """Raise UnreadablePasswordHash unless `verify_password` could use `encoded`."""
    _read(encoded)


def encode(cost: Cost, salt: bytes, digest: bytes) -> str:
    return f"$scrypt$ln={cost.ln},r={cost.r},p={cost.p}${_to_base64(salt)}${_to_base64(digest)}"


def _read(encoded: str) -> _Parts:
    # No word of the text is quoted: it may be a password that somebody put in the wrong place.
    match = _TEXT.fullmatch(encoded) if len(encoded) <= MAX_TEXT else None
    if match is None:
        raise UnreadablePasswordHash("a password's hash should read $scrypt$ln=N,r=N,p=N$salt$hash")
    cost = Cost(*(int(number) for number in match.group(1, 2, 3)))
    if not cost.is_bearable:
        raise UnreadablePasswordHash(
            f"a password's hash asks for ln={cost.ln},r={cost.r},p={cost.p}, more than "
            f"{MAX_MEMORY >> 20} MiB or as much work as ln=16,r=8,p=2"
        )
    salt, digest = (_from_base64(text) for text in match.group(4, 5))
    if not (MIN_SALT <= len(salt) <= MAX_SALT and MIN_HASH <= len(digest) <= MAX_HASH):
        raise UnreadablePasswordHash(
            f"a password's hash has a salt of {MIN_SALT} to {MAX_SALT} octets "
            f"and a hash of {MIN_HASH} to {MAX_HASH}"
        )
    return _Parts(cost, salt, digest)


def _digest(password: str, salt: bytes, cost: Cost, octets: int) -> bytes:
    # One password however it was typed (RFC 8265 §4.2.2): composed, and any space is the space.
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    text = unicodedata.normalize("NFC", spaced).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(
        text,
        salt=salt,
        n=1 << cost.ln,
        r=cost.r,
        p=cost.p,
        maxmem=cost.memory + 128 * cost.r * (cost.p + 2) + 1024,  # what OpenSSL counts beside the blocks
        dklen=octets,
    )


def _to_base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadablePasswordHash("a password's hash has a part that is not base64") from None
