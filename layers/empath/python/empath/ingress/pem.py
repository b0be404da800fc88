"""Certificates and keys as PEM (RFC 7468): what is in a text, told apart before OpenSSL sees it.

OpenSSL's own words for a file in the wrong place are `NO_START_LINE`; a person needs better ones.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Self

from empath.domain.errors import ConfigError

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its chain, the server's own first, and its private key; both PEM."""

    chain: bytes
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, certificate: bytes, key: bytes) -> Self:
        """The certificates of one text and the key of the other, which may be the same.

        Raises ConfigError that says what is missing; whether they belong together is not known here.
        """
        chain = certificates_in(certificate)
        keys = [whole for label, whole in _blocks(key) if label.endswith(b"PRIVATE KEY")]
        if not keys:
            raise ConfigError("there is no PEM private key in it")
        if len(keys) > 1:
            raise ConfigError("there is more than one private key in it")
        if b"ENCRYPTED" in keys[0]:
            raise ConfigError("the private key is encrypted, and there is nobody to ask for its password")
        return cls(chain, keys[0] + b"\n")

    @classmethod
    def of_secret(cls, text: str) -> Self:
        """From `{"certificate": "<PEM>", "key": "<PEM>"}`, or from one PEM with both.

        Raises ConfigError, which quotes nothing of the text.
        """
        if not text.lstrip().startswith("{"):
            return cls.of(text.encode(errors="replace"), text.encode(errors="replace"))
        try:
            document: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise ConfigError("it begins like JSON and is none") from None
        parts = []
        for name in ("certificate", "key"):
            value = document.get(name)
            if not isinstance(value, str):
                raise ConfigError(f'its JSON lacks "{name}", which should be a PEM text')
            parts.append(value.encode(errors="replace"))
        return cls.of(*parts)


def certificates_in(text: bytes) -> bytes:
    """The certificates alone, without what programs write around them. Raises ConfigError for none."""
    found = [whole for label, whole in _blocks(text) if label in _CERTIFICATES]
    if not found:
        raise ConfigError("there is no PEM certificate in it")
    return b"\n".join(found) + b"\n"


def _blocks(text: bytes) -> list[tuple[bytes, bytes]]:
    return [(match[1], match[0]) for match in _BLOCK.finditer(text)]
