"""What the ingress is put together from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from empath.bootstrap.ports import Ports
from empath.config.functions import FunctionConfig
from empath.config.ingress import IngressConfig
from empath.ingress.authentication import PasswordCheck
from empath.ingress.certificates import CertificateFiles, CertificateSecret, ServerCertificate
from empath.ingress.health import Dependency, watched
from empath.ingress.hooks_loading import load_hooks
from empath.ingress.quotas import MessageQuotas
from empath.ingress.settings import IngressSettings
from empath.observe import tracing
from empath.observe.logging import configure
from empath.observe.metrics import EmfMetrics
from empath.pipeline.accept import Acceptance
from empath.ports import Clock, IdSource, Metrics, QueueName


@dataclass(frozen=True, slots=True)
class IngressParts:
    settings: IngressSettings
    acceptance: Acceptance
    clock: Clock
    ids: IdSource
    metrics: Metrics
    dependencies: tuple[Dependency, ...]


@asynccontextmanager
async def open_ingress(config: IngressConfig) -> AsyncIterator[IngressParts]:
    """Logging, tracing and the ingress's parts. Until the end counters are written every few seconds and
    the certificate is kept fresh.

    Raises ConfigError that names the variable or the hook, and Trouble when the certificate's secret cannot
    be read.
    """
    settings = replace(config.listener(), hooks=load_hooks(config.hooks))
    configure("ingress", config.log_level)
    tracing.configure(config.tracing == "on")
    metrics = EmfMetrics("ingress")
    ports = Ports(_as_functions_have_it(config), metrics=metrics)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(ports.close)
        await ports.open("spool", "group_commit")
        stack.callback(metrics.flush)  # a task that is cancelled before its first step writes nothing
        await stack.enter_async_context(_running(metrics.flush_forever(ports.clock)))
        if config.has_certificate:
            certificate = await _open_certificate(config, ports)
            await stack.enter_async_context(_running(certificate.keep_fresh()))
            settings = replace(settings, tls=certificate)
        if config.control_table is not None:
            await ports.open("users", "quotas")
            check = PasswordCheck(ports.users)
            stack.push_async_callback(check.close)
            quotas = MessageQuotas(
                ports.quotas,
                ports.clock,
                metrics,
                per_network=config.client_messages_per_hour,
                per_user=config.user_messages_per_hour,
            )
            settings = replace(settings, authenticator=check, users=ports.users, quotas=quotas)
        seen = watched(ports.spool, ports.group_commit, partial(ports.group_commit.probe, QueueName.ACCEPTED))
        acceptance = Acceptance(seen.spool, seen.queue)
        yield IngressParts(settings, acceptance, ports.clock, ports.ids, metrics, seen.dependencies)


async def _open_certificate(config: IngressConfig, ports: Ports) -> ServerCertificate:
    source: CertificateFiles | CertificateSecret
    if config.tls_secret is not None:
        await ports.open("secrets")
        source = CertificateSecret(ports.secrets, config.tls_secret)
    else:
        assert config.tls_certificate is not None and config.tls_key is not None  # noqa: S101 (config has checked)
        source = CertificateFiles(config.tls_certificate, config.tls_key)
    return await ServerCertificate.open(
        source, clock=ports.clock, metrics=ports.metrics, client_ca=config.tls_client_ca
    )


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """`work` beside the block, ended with it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _as_functions_have_it(config: IngressConfig) -> FunctionConfig:
    return FunctionConfig.model_validate(
        {
            "EMPATH_SPOOL_BUCKET": config.spool_bucket,
            "EMPATH_ACCEPTED_QUEUE_URL": config.accepted_queue_url,
            "EMPATH_CONTROL_TABLE": config.control_table,
            "EMPATH_HOSTNAME": config.hostname,
        }
    )
