"""The routes of one process, each made when a destination first needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from empath.domain.outcome import Sent
from empath.domain.policy import DomainPolicy, UnknownPolicy
from empath.domain.reply import Reply
from empath.domain.route import RouteKind
from empath.pipeline.secret_memory import unusable
from empath.ports import Handover, NextHop, Route, Transaction

MakeRoute = Callable[[], Awaitable[Route]]


class RouteTable:
    """ports.Routes by what makes each kind, so that a process loads only what its mail takes."""

    def __init__(self, makers: Mapping[RouteKind, MakeRoute]) -> None:
        self._makers = makers
        self._made: dict[RouteKind, Route] = {}

    async def find(self, destination: str, policy: DomainPolicy) -> NextHop:
        """Raises TransientRefusal for a kind that this process was not given, or an unknown policy."""
        if isinstance(policy, UnknownPolicy):
            raise unusable("its policy is not valid, and no earlier one is known")
        kind = policy.route.kind
        if kind not in self._made:
            if kind not in self._makers:
                raise unusable(f"this worker has no route of kind {kind!r}")
            self._made[kind] = await self._makers[kind]()
        return await self._made[kind].find(destination, policy)


@dataclass(frozen=True, slots=True)
class Nowhere:
    """The next hop of route `sink`; content is not even read."""

    site: str = "sink"

    async def deliver(self, transaction: Transaction, *, time_left: Callable[[], float]) -> Handover:
        sent = Sent(Reply.of(250, "2.0.0", "Dropped by policy: the route of this destination is a sink"))
        return Handover(dict.fromkeys(transaction.recipients, sent), "sink")


@dataclass(frozen=True, slots=True)
class ToNowhere:
    """Route `sink`."""

    async def find(self, destination: str, policy: DomainPolicy) -> Nowhere:
        return Nowhere()
