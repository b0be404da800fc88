"""What was negotiated with a next hop, as the ledger keeps it: one line that a person reads.

TLSv1.3 TLS_AES_256_GCM_SHA384 mx.example verified
TLSv1.3 TLS_AES_256_GCM_SHA384 mx.example unverified
TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384 mx.example invalid: certificate has expired
"""

from __future__ import annotations

from dataclasses import dataclass

VERIFIED = "verified"
UNVERIFIED = "unverified"
"""Nobody looked at the certificate."""

_INVALID = "invalid: "


@dataclass(frozen=True, slots=True)
class TlsSession:
    protocol: str
    cipher: str
    peer: str = ""
    """The name that was asked for, and that the certificate is for when it is verified."""
    verification: str = UNVERIFIED
    """VERIFIED, UNVERIFIED, or what `invalid` says."""

    def __str__(self) -> str:
        return " ".join((self.protocol, self.cipher, self.peer or "-", self.verification))

    @classmethod
    def read(cls, text: str) -> TlsSession:
        """What `str` wrote; older records hold protocol and cipher only. ValueError when it is neither."""
        words = text.split(" ", 3)
        if len(words) == 4:
            protocol, cipher, peer, verification = words
            return cls(protocol, cipher, "" if peer == "-" else peer, verification)
        if len(words) == 2:
            return cls(words[0], words[1])
        raise ValueError(f"not a TLS session: {text!r}")

    @property
    def is_verified(self) -> bool:
        return self.verification == VERIFIED


def invalid(fault: str) -> str:
    """A certificate that is not valid and was accepted all the same, because policy says so."""
    return _INVALID + fault
