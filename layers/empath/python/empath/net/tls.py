"""How TLS is begun with a next hop, and what comes after it failed: RFC 3207, RFC 7435, RFC 9525.

    policy          first        when the handshake fails   when the certificate is not valid
    opportunistic   unchecked    in plain                   (nobody looks)
    required        unchecked    refused                    (nobody looks)
    verified        checked      refused                    refused, or unchecked by accept_invalid_certs
    disabled        in plain
    implicit TLS    as above, but never in plain

Unchecked is no carelessness: whoever can present a false certificate can take STARTTLS away as well, and
encryption without proof of identity beats none.
"""

from __future__ import annotations

import ssl
from enum import Enum, auto
from functools import cached_property

from empath.domain.address import address_of_literal
from empath.domain.errors import Refusal
from empath.domain.reason import Reason
from empath.net.mapping import CertificateRefused
from empath.ports import Endpoint


class Way(Enum):
    PLAIN = auto()
    UNCHECKED = auto()
    CHECKED = auto()


def first_way(endpoint: Endpoint) -> Way:
    if endpoint.tls == "verified":
        return Way.CHECKED
    if endpoint.tls == "disabled" and not endpoint.implicit_tls:
        return Way.PLAIN
    return Way.UNCHECKED


def way_after(endpoint: Endpoint, refusal: Refusal) -> Way | None:
    """How to try once more, on another connection; None: `refusal` stands."""
    if refusal.reason is not Reason.TLS_FAILED:
        return None
    if endpoint.tls == "opportunistic" and not endpoint.implicit_tls:
        return Way.PLAIN
    if endpoint.tls == "verified" and endpoint.accept_invalid_certs:
        return Way.UNCHECKED if isinstance(refusal, CertificateRefused) else None
    return None


def name_of(endpoint: Endpoint) -> str:
    """Who the certificate has to be for: what policy says, else the host; an address is one without
    brackets."""
    if endpoint.tls_name is not None:
        return endpoint.tls_name
    if endpoint.host.startswith("["):
        return str(address_of_literal(endpoint.host))
    return endpoint.host


class TlsContexts:
    """What every handshake begins with. Each is made once, on first use: reading the authorities of the
    system takes some ten milliseconds."""

    def __init__(self, authorities: bytes | None = None) -> None:
        """`authorities` in PEM are trusted in place of the system's (SSL_CERT_FILE and SSL_CERT_DIR)."""
        self._authorities = authorities

    def of(self, way: Way) -> ssl.SSLContext:
        return self.checked if way is Way.CHECKED else self.unchecked

    @cached_property
    def unchecked(self) -> ssl.SSLContext:
        context = _context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Old servers with short keys: the alternative to weak encryption here is none.
        context.set_ciphers("DEFAULT:@SECLEVEL=1")
        return context

    @cached_property
    def checked(self) -> ssl.SSLContext:
        context = _context()
        context.hostname_checks_common_name = False  # RFC 9525 §2
        if self._authorities is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=self._authorities.decode("ascii"))
        return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    return context
