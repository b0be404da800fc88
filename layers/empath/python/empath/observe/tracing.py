"""X-Ray: which trace this is, and subsegments around the stages.

Ids and headers are read by hand and cost nothing. Segments are recorded only after `configure(True)`;
the SDK is imported then. Each entity goes to the daemon by itself (one UDP datagram), and the current
one is kept per asyncio task: the SDK's own context in Lambda is a thread's, where the concurrent jobs
of a batch would become each other's parents. A daemon that is not there is no error.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

HEADER_VARIABLE = "_X_AMZN_TRACE_ID"
"""Set by Lambda for every invocation."""

logger = logging.getLogger(__name__)

_on = False
_emitter: Any = None
_header: ContextVar[str | None] = ContextVar("trace_header", default=None)
_entity: ContextVar[Any] = ContextVar("trace_entity", default=None)


def configure(tracing: bool) -> None:
    """Switch recording on or off; on imports the SDK."""
    global _on, _emitter
    _on = tracing
    if tracing and _emitter is None:
        from aws_xray_sdk.core.daemon_config import DaemonConfig
        from aws_xray_sdk.core.emitters.udp_emitter import UDPEmitter

        # The SDK logs each datagram it could not send, with a traceback.
        logging.getLogger("aws_xray_sdk").setLevel(logging.CRITICAL)
        _emitter = UDPEmitter()
        config = DaemonConfig()  # AWS_XRAY_DAEMON_ADDRESS, or 127.0.0.1:2000
        _emitter.set_daemon_address(f"{config.udp_ip}:{config.udp_port}")


def trace_header() -> str | None:
    """`Root=...;Parent=...;Sampled=...` of the work at hand: `continued`'s, else the invocation's."""
    return _header.get() or os.environ.get(HEADER_VARIABLE) or None


def trace_id(header: str | None = None) -> str | None:
    """The Root of `header`, or of the work at hand."""
    return _fields(header or trace_header()).get("Root")


@contextmanager
def continued(header: str | None) -> Iterator[None]:
    """The work inside belongs to the trace of `header` (None changes nothing)."""
    if header is None:
        yield
        return
    token, entity = _header.set(header), _entity.set(None)
    try:
        yield
    finally:
        _entity.reset(entity)
        _header.reset(token)


@contextmanager
def traced(name: str, **annotations: str | int) -> Iterator[None]:
    """A subsegment around a stage (a segment, where the trace has no parent); an exception marks it."""
    entity = _begin(name, annotations) if _on else None
    if entity is None:
        yield
        return
    token = _entity.set(entity)
    try:
        yield
    except BaseException as error:
        entity.add_fault_flag()
        entity.put_annotation("error", type(error).__name__)  # not its text: that may hold addresses
        raise
    finally:
        _entity.reset(token)
        entity.close()
        _emitter.send_entity(entity)


def _begin(name: str, annotations: Mapping[str, str | int]) -> Any:
    """A started entity, or None when this trace is not sampled or not known."""
    from aws_xray_sdk.core.models.segment import Segment
    from aws_xray_sdk.core.models.subsegment import Subsegment

    fields = _fields(trace_header())
    root = fields.get("Root")
    if root is None or fields.get("Sampled") != "1":
        return None
    parent = _entity.get()
    if parent is None and "Parent" not in fields:
        entity = Segment(name, traceid=root, sampled=True)
    else:
        owner = Segment(name, traceid=root, sampled=True)  # only lends the trace id
        owner.increment()  # `close` counts down
        entity = Subsegment(name, "local", owner)
        entity.parent_id = fields.get("Parent") if parent is None else parent.id
    for key, value in annotations.items():
        entity.put_annotation(key, value)
    return entity


def _fields(header: str | None) -> dict[str, str]:
    if not header:
        return {}
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {key: value for key, _, value in pairs if value}
