"""Next hops for the routes' contract: each route with something real, or scripted, at its other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, Protocol

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from empath.aws.ses_route import ToSes
from empath.domain.policy import DomainPolicy, read_policy
from empath.net.dialer import SmtpDialer
from empath.net.webhook import ToWebhook
from empath.pipeline.mail_hosts import ToExchangers
from empath.pipeline.named_hosts import ToSmarthost, ToStore
from empath.pipeline.secret_memory import SecretMemory
from empath.ports import Route
from empath.testing.clock import ManualClock, SequentialIds
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.memory_secrets import MemorySecrets
from empath.testing.route_sinks import LmtpSink
from empath.testing.smtp_sink import TAKE_AND_DROP, TAKE_AND_STALL, SmtpSink, Step
from empath.testing.webhook_sink import Answer, WebhookSink
from empath.testing.zones import Node, Zones

DESTINATION = "dest.test"
KEY = "a key for signatures"
LOOPBACK = ["127.0.0.0/8"]

Fate = Literal["refused", "deferred", "lost", "silent", "gone"]
"""What becomes of the next message: a 5xx, a 4xx, taken without an answer (two ways), or nobody there."""

Received = tuple[str, tuple[str, ...], bytes]

ZONES: Zones = {
    DESTINATION: Node(mx=[(10, "mx.dest.test")]),
    "mx.dest.test": Node(a=["127.0.0.1"]),
    "relay.test": Node(a=["127.0.0.1"]),
    "hook.test": Node(a=["127.0.0.1"]),
}


class World(Protocol):
    """A route and its next hop."""

    route: Route
    policy: DomainPolicy

    def meets(self, fate: Fate) -> None:
        """The next message does."""

    def received(self) -> list[Received]:
        """What was taken, or may have been."""


class SmtpWorld:
    """`mx`, `smarthost` and `lmtp` over sockets."""

    steps: ClassVar[dict[Fate, tuple[str, Step]]] = {
        "refused": ("message", "554 5.7.1 Not wanted"),
        "deferred": ("message", "451 4.7.1 Come back later"),
        "lost": ("message", TAKE_AND_DROP),
        "silent": ("message", TAKE_AND_STALL),
        "gone": ("connect", "421 4.3.2 Closed for today"),
    }

    def __init__(self, kind: str, sink: SmtpSink) -> None:
        self.sink = sink
        resolver, ids = ZoneResolver(ZONES), SequentialIds()
        dialer = SmtpDialer("us.test")
        route: dict[str, Any] = {"kind": kind}
        if kind != "mx":
            route["hosts"] = [{"host": "relay.test", "port": sink.port}]
        self.policy = read_policy({"allow_addresses": LOOPBACK, "port": sink.port, "route": route})
        secrets = SecretMemory(MemorySecrets(), ManualClock())
        routes: dict[str, Route] = {
            "mx": ToExchangers(resolver, dialer, ids, "us.test"),
            "smarthost": ToSmarthost(resolver, dialer, ids, secrets),
            "lmtp": ToStore(resolver, dialer, ids),
        }
        self.route = routes[kind]

    def meets(self, fate: Fate) -> None:
        stage, step = self.steps[fate]
        self.sink.script[stage] = [step]

    def received(self) -> list[Received]:
        return [(seen.reverse_path, seen.recipients, seen.content) for seen in self.sink.accepted]


class WebhookWorld:
    answers: ClassVar[dict[Fate, Answer]] = {
        "refused": (422, {}, "Not wanted"),
        "deferred": (503, {}, "Come back later"),
        "lost": "drop",
        "silent": "stall",
    }

    def __init__(self, sink: WebhookSink) -> None:
        self.sink = sink
        self.clock = ManualClock()
        self.resolver = ZoneResolver(dict(ZONES))
        self.secrets = MemorySecrets({"hook-key": KEY})
        self.policy = self.with_url(f"https://hook.test:{sink.port}/mail")
        self.route: Route = ToWebhook(
            self.resolver, SecretMemory(self.secrets, self.clock), self.clock, context=sink.context
        )

    def with_url(self, url: str, allow: list[str] | None = None) -> DomainPolicy:
        route = {"kind": "webhook", "url": url, "secret": "hook-key"}
        return read_policy({"allow_addresses": LOOPBACK if allow is None else allow, "route": route})

    def meets(self, fate: Fate) -> None:
        if fate == "gone":
            self.policy = self.with_url("https://hook.test:1/mail")
        else:
            self.sink.script.append(self.answers[fate])

    def received(self) -> list[Received]:
        return [
            (posted.document["reverse_path"], tuple(posted.document["recipients"]), posted.content)
            for posted in self.sink.posted
        ]


class ScriptedSes:
    """A sesv2 client in memory."""

    def __init__(self) -> None:
        self.meta = SimpleNamespace(endpoint_url="https://email.test")
        self.requests: list[dict[str, Any]] = []
        self.fates: list[Exception | Literal["silent"]] = []

    async def send_email(self, **request: Any) -> dict[str, str]:
        fate = self.fates.pop(0) if self.fates else None
        if isinstance(fate, Exception) and not isinstance(fate, ReadTimeoutError):
            raise fate
        self.requests.append(request)
        if isinstance(fate, Exception):
            raise fate
        if fate == "silent":
            await asyncio.sleep(3600)
        return {"MessageId": f"ses-{len(self.requests)}"}


def ses_error(code: str, status: int, words: str = "Not so") -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": words},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "SendEmail")


class SesWorld:
    def __init__(self) -> None:
        self.client = ScriptedSes()
        self.policy = read_policy({"route": {"kind": "ses"}})

        async def client_of(region: str | None) -> ScriptedSes:
            return self.client

        self.route: Route = ToSes(client_of)

    def meets(self, fate: Fate) -> None:
        fates: dict[Fate, Exception | Literal["silent"]] = {
            "refused": ses_error("MessageRejected", 400),
            "deferred": ses_error("TooManyRequestsException", 429),
            "lost": ReadTimeoutError(endpoint_url="https://email.test"),
            "silent": "silent",
            "gone": EndpointConnectionError(endpoint_url="https://email.test"),
        }
        self.client.fates.append(fates[fate])

    def received(self) -> list[Received]:
        return [
            (
                request.get("FromEmailAddress", ""),
                tuple(request["Destination"]["ToAddresses"]),
                request["Content"]["Raw"]["Data"],
            )
            for request in self.client.requests
        ]


KINDS = ("mx", "smarthost", "lmtp", "webhook", "ses")


@asynccontextmanager
async def world_of(kind: str) -> AsyncIterator[World]:
    if kind == "ses":
        yield SesWorld()
    elif kind == "webhook":
        async with WebhookSink() as hook:
            yield WebhookWorld(hook)
    else:
        async with LmtpSink() if kind == "lmtp" else SmtpSink() as sink:
            yield SmtpWorld(kind, sink)
