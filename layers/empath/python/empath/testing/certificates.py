"""Certificates made at run time: self-signed ones, and those of an authority; needs `cryptography`."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = datetime.timedelta(days=2)

Validity = tuple[datetime.datetime, datetime.datetime]
"""From when to when."""

FOR_SERVERS = ExtendedKeyUsageOID.SERVER_AUTH
FOR_CLIENTS = ExtendedKeyUsageOID.CLIENT_AUTH


def self_signed(
    hostname: str = "mx.sink.test", *, also: Sequence[str] = (), validity: Validity | None = None
) -> tuple[bytes, bytes]:
    """A certificate for `hostname` and its key (ECDSA P-256), both PEM. `also`: more names, IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = _alternatives(dns=(hostname, *also))
    builder = _builder(_name(hostname), _name(hostname), key, validity, names)
    return _pem(_for(builder, FOR_SERVERS).sign(key, hashes.SHA256())), _key_pem(key)


class Authority:
    """A certificate authority of its own; `certificate` is what is trusted, PEM."""

    def __init__(self, name: str = "Test Authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key, None, [])
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = _pem(builder.sign(self._key, hashes.SHA256()))

    def issue(
        self,
        common_names: Sequence[str] = (),
        *,
        dns: Sequence[str] = (),
        emails: Sequence[str] = (),
        purpose: x509.ObjectIdentifier = FOR_CLIENTS,
        validity: Validity | None = None,
    ) -> tuple[bytes, bytes]:
        """A certificate with just these names, and its key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = _alternatives(dns=dns, emails=emails)
        builder = _builder(_name(*common_names), self._name, key, validity, names)
        return _pem(_for(builder, purpose).sign(self._key, hashes.SHA256())), _key_pem(key)


def server_context(hostname: str = "mx.sink.test") -> ssl.SSLContext:
    """A server's TLS context with a fresh self-signed certificate."""
    return serving(*self_signed(hostname))


def serving(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """A server's TLS context with this certificate (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(context, certificate, key)
    return context


def client_context(
    trusted: bytes | None = None, *, certificate: tuple[bytes, bytes] | None = None
) -> ssl.SSLContext:
    """A client's TLS context that trusts `trusted` (PEM), or anybody, and shows `certificate`, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusted is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=trusted.decode())
    if certificate is not None:
        load(context, *certificate)
    return context


def load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give a context its certificate. `ssl` reads certificates from files only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "both.pem")
        path.write_bytes(certificate + key)
        context.load_cert_chain(path)


def _name(*common_names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])


def _alternatives(*, dns: Iterable[str] = (), emails: Iterable[str] = ()) -> list[x509.GeneralName]:
    return [*map(_host, dns), *map(x509.RFC822Name, emails)]


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    validity: Validity | None,
    names: list[x509.GeneralName],
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = validity or (now - VALID_FOR, now + VALID_FOR)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder


def _for(builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> x509.CertificateBuilder:
    return builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    ).add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
