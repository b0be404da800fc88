"""What all connections of a listener share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from empath.domain.network import IPAddress, is_inside
from empath.ingress.auth_failures import AuthFailures
from empath.ingress.hooks_runner import Hooks
from empath.ingress.relay_policy import RelayPolicy
from empath.ingress.settings import RECEIVE_BUFFER, IngressSettings, PortKind
from empath.pipeline.accept import Acceptance
from empath.ports import Clock, IdSource, Metrics
from empath.smtp.dsn_parameters import DSN
from empath.smtp.extensions import AUTH, STANDARD, STARTTLS, Extension, Offer
from empath.smtp.limits import Limits
from empath.smtp.server import ServerSession


@dataclass(slots=True)
class Services:
    settings: IngressSettings
    acceptance: Acceptance
    clock: Clock
    ids: IdSource
    metrics: Metrics
    policy: RelayPolicy
    limits: Limits
    offer: Offer
    hooks: Hooks | None = None
    auth_failures: AuthFailures = field(default_factory=AuthFailures)
    receive_buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(RECEIVE_BUFFER)))
    storing: set[asyncio.Task[None]] = field(default_factory=set)
    """Messages on their way into the spool, so that a closing listener can wait for them."""

    @classmethod
    def of(
        cls, settings: IngressSettings, acceptance: Acceptance, clock: Clock, ids: IdSource, metrics: Metrics
    ) -> Services:
        limits = Limits(
            max_size=settings.max_size,
            max_recipients=settings.max_recipients,
            max_messages=settings.max_messages,
            max_errors=settings.max_errors,
        )
        return cls(
            settings=settings,
            acceptance=acceptance,
            clock=clock,
            ids=ids,
            metrics=metrics,
            policy=RelayPolicy(settings.networks, settings.relay_domains),
            limits=limits,
            offer=Offer(_extensions(settings), limits),
            hooks=settings.hooks,
        )

    def new_session(self, port: PortKind) -> ServerSession:
        return ServerSession(
            self.settings.hostname, self.offer, self.limits, must_authenticate=port.is_submission
        )

    def speaks_for_others(self, address: IPAddress | None) -> bool:
        """Whether it is a load balancer that connects."""
        return address is not None and is_inside(address, self.settings.proxy_networks)


def _extensions(settings: IngressSettings) -> tuple[Extension, ...]:
    """What is offered; DSN everywhere, since the pipeline honours NOTIFY (RFC 3461 §5)."""
    starttls = (STARTTLS,) if settings.tls is not None else ()
    auth = (AUTH,) if settings.authenticator is not None else ()
    return (*STANDARD, DSN, *starttls, *auth)
