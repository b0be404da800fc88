"""The local ingress's own certificate, made at the first start and again when its end is near.

Nobody issued it: a client trusts it by being told of the file, or takes any certificate, as mail servers do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from empath.local.options import HOST
from empath.testing.certificates import self_signed

NAMES = ("localhost", "relay.localhost", HOST, "::1")

VALID_FOR = timedelta(days=365)
RENEWED_AHEAD = timedelta(days=30)
"""So long before its end a start makes a new one: no stack is expected to run for longer without a stop."""


@dataclass(frozen=True, slots=True)
class LocalCertificate:
    """Two PEM files; the key is readable by its owner only."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, state_dir: Path) -> LocalCertificate:
        folder = state_dir / "tls"
        return cls(folder / "certificate.pem", folder / "key.pem")

    def provide(self, now: datetime) -> bool:
        """Make a new one where there is none that lasts; whether that was done. Raises OSError."""
        if self._lasts(now):
            return False
        certificate, key = self_signed(NAMES[0], also=NAMES[1:], validity=(now, now + VALID_FOR))
        self.certificate.parent.mkdir(parents=True, exist_ok=True)
        write_private(self.key, key)
        draft = self.certificate.with_suffix(".new")
        draft.write_bytes(certificate)
        draft.replace(self.certificate)
        return True

    def _lasts(self, now: datetime) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            key = load_pem_private_key(self.key.read_bytes(), None)
        except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm):
            return False  # none yet, or a start that was interrupted; either is mended by a new one
        return (
            certificate.public_key() == key.public_key()
            and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEWED_AHEAD
        )


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole by one that only its owner may read, from the first octet on."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)
