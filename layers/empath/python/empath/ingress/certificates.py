"""The server's certificate: where it comes from, and how a new one takes its place while sessions go on.

A handshake uses the context that is there when it begins, so what is replaced harms no session. What is new
and cannot be used leaves the old in force and is logged and counted, for a certificate that was fine a minute
ago is better than none.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn, Protocol, Self

from empath.domain.errors import ConfigError, SecretTrouble, SecretUnusable, Trouble
from empath.ingress.pem import KeyPair, certificates_in
from empath.ingress.tls import Validity, make_context, prove, trust_clients_of
from empath.ports import Clock, Metrics, Secrets

FILES = "EMPATH_TLS_CERTIFICATE and EMPATH_TLS_KEY"
SECRET = "EMPATH_TLS_SECRET"  # noqa: S105 (the name of a setting)
CLIENT_CA = "EMPATH_TLS_CLIENT_CA"

READ_EVERY = 60.0
"""Seconds. A secret read once a minute costs 0.22 USD a month at list price, per process."""

EXPIRY_IS_NEAR = timedelta(days=14)
"""Whatever renews certificates by itself does so 30 days ahead; this late something is wrong with it."""

REPEAT_AFTER = timedelta(hours=6)
"""How long the same words are not logged again."""

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where certificate and key come from."""

    @property
    def setting(self) -> str:
        """The name that errors have for it."""

    async def read(self) -> KeyPair:
        """What is there now. Raises ConfigError or SecretUnusable for what cannot be used, and Trouble."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Two PEM files, or one that is named twice."""

    certificate: Path
    key: Path
    setting: str = FILES

    async def read(self) -> KeyPair:
        certificate, key = await _read_file(self.certificate), await _read_file(self.key)
        try:
            return KeyPair.of(certificate, key)
        except ConfigError as error:
            raise ConfigError(f"{self.certificate} with {self.key}: {error}") from None


@dataclass(frozen=True, slots=True)
class CertificateSecret:
    """A secret that holds both; see `KeyPair.of_secret`."""

    secrets: Secrets
    name: str
    setting: str = SECRET

    async def read(self) -> KeyPair:
        text = await self.secrets.text(self.name)
        try:
            return KeyPair.of_secret(text)
        except ConfigError as error:
            raise ConfigError(f"the secret {self.name!r} cannot be used: {error}") from None


@dataclass(frozen=True, slots=True)
class _InForce:
    context: ssl.SSLContext
    validity: Validity
    fingerprint: bytes


class ServerCertificate:
    """The certificate in force, a `tls.Certificate`. `open` makes one, `keep_fresh` follows its source."""

    def __init__(
        self, source: Source, client_ca: Path | None, clock: Clock, metrics: Metrics, in_force: _InForce
    ) -> None:
        self._source = source
        self._client_ca = client_ca
        self._clock = clock
        self._metrics = metrics
        self._in_force = in_force
        self._said: dict[str, tuple[str, datetime]] = {}

    @classmethod
    async def open(
        cls, source: Source, *, clock: Clock, metrics: Metrics, client_ca: Path | None = None
    ) -> Self:
        """The certificate that is there at the start.

        One that is expired is served, and complained of: most mail servers do not look, and no listener at
        all would stop their mail, too. Raises ConfigError, which names the setting and the reason, and
        Trouble when the source does not answer.
        """
        in_force = await _read(source, client_ca, None)
        certificate = cls(source, client_ca, clock, metrics, in_force)
        certificate._tell_what_is_in_force()
        certificate._look_at_the_time()
        return certificate

    @property
    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self._in_force.context

    @property
    def ends(self) -> datetime:
        """When the certificate in force expires."""
        return self._in_force.validity.ends

    async def keep_fresh(self, every: float = READ_EVERY) -> NoReturn:
        """Read the source every so many seconds, until cancelled."""
        while True:
            await self._clock.sleep(every)
            await self.reread()

    async def reread(self) -> bool:
        """Whether something new is in force now. Raises nothing: what goes wrong is logged and counted."""
        try:
            new = await _read(self._source, self._client_ca, self._in_force)
            if new is not self._in_force:
                self._require_its_time(new.validity)
        except (ConfigError, Trouble, OSError) as error:
            self._metrics.count("certificate_unusable")
            self._say(
                logging.ERROR, "the certificate cannot be renewed; the old one stays in force", str(error)
            )
            new = self._in_force
        changed = new is not self._in_force
        if changed:
            self._in_force = new
            self._said.clear()
            self._metrics.count("certificate_renewed")
            self._tell_what_is_in_force()
        self._look_at_the_time()
        return changed

    def _require_its_time(self, validity: Validity) -> None:
        now = self._clock.now()
        if validity.ends <= now:
            raise ConfigError(f"{self._source.setting}: the certificate expired on {validity.ends:%Y-%m-%d}")
        if validity.begins > now:
            raise ConfigError(
                f"{self._source.setting}: the certificate counts from {validity.begins:%Y-%m-%d %H:%M} UTC on"
            )

    def _look_at_the_time(self) -> None:
        now, validity = self._clock.now(), self._in_force.validity
        if not validity.begins <= now < validity.ends:
            self._metrics.count("certificate_expired")
            self._say(logging.ERROR, "the certificate in force is not valid now", _span(validity))
        elif validity.ends - now < EXPIRY_IS_NEAR:
            self._metrics.count("certificate_expires_soon")
            self._say(logging.WARNING, "the certificate in force expires soon", _span(validity))

    def _tell_what_is_in_force(self) -> None:
        validity = self._in_force.validity
        logger.info(
            "certificate in force", extra={"names": list(validity.names), "ends": validity.ends.isoformat()}
        )

    def _say(self, level: int, message: str, detail: str) -> None:
        now = self._clock.now()
        said, at = self._said.get(message, ("", now))
        if said != detail or now - at >= REPEAT_AFTER:
            self._said[message] = detail, now
            logger.log(level, message, extra={"setting": self._source.setting, "detail": detail})


async def _read(source: Source, client_ca: Path | None, known: _InForce | None) -> _InForce:
    """What is there now; `known` itself when nothing has changed. Raises ConfigError and Trouble."""
    try:
        pair = await source.read()
    except (ConfigError, SecretUnusable) as error:
        raise ConfigError(f"{source.setting}: {error}") from None
    except Trouble as error:
        raise SecretTrouble(f"{source.setting}: {error}") from error
    authorities = None
    if client_ca is not None:
        try:
            authorities = certificates_in(await _read_file(client_ca))
        except ConfigError as error:
            raise ConfigError(f"{CLIENT_CA}: {client_ca}: {error}") from None
    fingerprint = _fingerprint(pair.chain, pair.key, authorities or b"")
    if known is not None and known.fingerprint == fingerprint:
        return known
    try:
        context = make_context(pair)
        validity = prove(context, pair.chain)
    except ConfigError as error:
        raise ConfigError(f"{source.setting}: {error}") from None
    if authorities is not None:
        try:
            trust_clients_of(context, authorities)
        except ConfigError as error:
            raise ConfigError(f"{CLIENT_CA}: {client_ca}: {error}") from None
    return _InForce(context, validity, fingerprint)


async def _read_file(path: Path) -> bytes:
    try:
        return await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def _fingerprint(*parts: bytes) -> bytes:
    """One-way, so that the key itself is not kept."""
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _span(validity: Validity) -> str:
    return f"it counts from {validity.begins:%Y-%m-%d} to {validity.ends:%Y-%m-%d %H:%M} UTC"
