"""The next hops of a run: they accept, refuse, defer, are slow, or lose the connection at any point.

What a hop does with a message is drawn from its plan by the names of destination, message and attempt. Once
the final dot is out, the hop goes its own way: it takes the message even when the worker that sent it is
dead by then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from empath.domain.errors import Refusal, TransientRefusal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, Sent
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.guard import guard
from empath.ports import (
    Endpoint,
    Handover,
    MailExchangers,
    NextHop,
    Routes,
    Transaction,
    TransactionResult,
)
from empath.testing.memory_resolver import ZoneResolver
from empath.testing.simulation.draws import Draws
from empath.testing.simulation.history import History
from empath.testing.simulation.loop import SECOND, SimulationLoop
from empath.testing.simulation.plan import HopPlan
from empath.testing.simulation.ports import Gate
from empath.testing.simulation.process import SCOPE, Scope
from empath.testing.zones import Node, Zones

ACCEPTED = Sent(Reply.of(250, "2.0.0", "Accepted"))
GREYLISTED = Deferred(Reply.heard(451, "4.7.1 Come back later"))
UNKNOWN = Failed(Reply.heard(550, "5.1.1 No such user here"))
REFUSALS = {
    "unknown": UNKNOWN,
    "full": Failed(Reply.heard(552, "5.2.2 Mailbox is full")),
    "spam": Failed(Reply.heard(550, "5.1.1 Blocked, looks like spam")),
}
LOST = Deferred(Reply.of(451, "4.4.2", "Connection lost"), Reason.CONNECTION_LOST)
TIMED_OUT = Deferred(Reply.of(451, "4.4.2", "Timed out"), Reason.TIMEOUT)
GONE = Failed(Reply.heard(554, "5.3.0 410 Gone"))
DOWN = Reply.of(451, "4.4.1", "Connection refused")

ANSWERS_LAST = ("lmtp", "webhook")
LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that a next hop took responsibility for."""

    message: str
    """The label of the message."""
    owner: str | None
    """The claim under which it was sent."""
    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes
    declared_size: int
    domain: str


class Hops:
    """The Dialer of a run."""

    def __init__(
        self,
        gate: Gate,
        plans: Sequence[HopPlan],
        draws: Draws,
        history: History,
        taken: Callable[[Taken], None],
    ) -> None:
        self.gate, self.draws, self.history, self.taken = gate, draws, history, taken
        self._plans = {hop.domain: hop for hop in plans}
        self._counts: defaultdict[str, int] = defaultdict(int)

    @property
    def loop(self) -> SimulationLoop:
        return self.gate.loop

    async def connect(self, endpoint: Endpoint, *, deadline: float) -> SimulatedChannel:
        guard(endpoint)
        plan = self._plans[endpoint.host.removeprefix("mx.").removeprefix("mx2.")]
        scope = SCOPE.get()
        name = f"{scope.label} at {endpoint.host}"
        self._counts[name] = attempt = self._counts[name] + 1
        name = f"{name} {attempt}"
        ends_at = self.loop.now + int(deadline * SECOND)

        async def effect() -> SimulatedChannel:
            if self.loop.now < plan.down_until or self.draws.chance(f"{name} connect", plan.connect_refused):
                # A new one each time: an exception keeps the frames of every raise.
                raise TransientRefusal(DOWN, Reason.CONNECTION_FAILED)
            return SimulatedChannel(self, plan, scope, name, ends_at)

        return await self.gate.call("dialer.connect", effect, about=endpoint.host)

    def webhook(self, domain: str) -> SimulatedWebhook:
        """The next hop of route `webhook`."""
        return SimulatedWebhook(self, self._plans[domain])


@dataclass(frozen=True, slots=True)
class SimulatedRoutes:
    """Those of memory, and `webhook`, whose real one has sockets of its own."""

    others: Routes
    hops: Hops

    async def find(self, destination: str, policy: DomainPolicy) -> NextHop:
        if policy.route.kind == "webhook":
            return self.hops.webhook(destination)
        return await self.others.find(destination, policy)


@dataclass(frozen=True, slots=True)
class SimulatedWebhook:
    """Takes a message over a connection of its own, and says one thing about all of its recipients."""

    hops: Hops
    plan: HopPlan

    @property
    def site(self) -> str:
        return f"https://{self.plan.domain}:443"

    async def deliver(self, transaction: Transaction, *, time_left: Callable[[], float]) -> Handover:
        endpoint = Endpoint(self.plan.domain, ip_address("127.0.0.1"), 443, allow_addresses=LOOPBACK)
        try:
            channel = await self.hops.connect(endpoint, deadline=time_left())
            done = await channel.transact(transaction)
        except Refusal as refusal:
            return Handover.refused(transaction, refusal, self.site)
        return Handover(done.outcomes, self.site, ambiguous=done.ambiguous)


class SimulatedChannel:
    def __init__(self, hops: Hops, plan: HopPlan, scope: Scope, name: str, ends_at: int) -> None:
        self._hops, self._plan, self._scope, self._name = hops, plan, scope, name
        self._ends_at = ends_at

    @property
    def tls(self) -> str | None:
        return None

    @property
    def is_usable(self) -> bool:
        return False

    async def reset(self, *, deadline: float | None = None) -> bool:
        return False

    async def transact(self, transaction: Transaction, *, deadline: float | None = None) -> TransactionResult:
        gate, draw, route = self._hops.gate, self._draw, self._plan.route
        outcomes = {address: self._outcome(address) for address in transaction.recipients}
        if route == "webhook":
            answer = self._outcome("everybody")
            outcomes = dict.fromkeys(outcomes, GONE if isinstance(answer, Failed) else answer)
        fate, speed, patience, _ = self._hops.draws.four(f"{self._name} fate")

        async def greeted() -> None:
            pass

        await gate.call("channel.transact", greeted, about=f"{len(outcomes)} recipients")
        takers = [address for address, outcome in outcomes.items() if isinstance(outcome, Sent)]
        # Who is answered for only when all of the content is out.
        unheard = takers if route not in ANSWERS_LAST else list(outcomes)
        if fate < self._plan.lost_before / 2:
            return self._told(TransactionResult(dict.fromkeys(outcomes, LOST)))
        if not unheard:
            return self._told(TransactionResult(outcomes))
        content = b"".join([chunk async for chunk in transaction.content()])
        if fate < self._plan.lost_before:
            return self._told(TransactionResult(dict.fromkeys(outcomes, LOST)))

        if transaction.before_commit is not None:
            await transaction.before_commit()
        # The final dot is out.
        ambiguous = draw("ambiguous") < self._plan.ambiguous
        if route == "lmtp":
            # The replies come one by one, and the connection may be lost between any two.
            unheard = unheard[int(draw("heard") * len(unheard)) :]
        thinking = int((300 * patience if speed < self._plan.slow else 0.4 * patience) * SECOND)
        left = self._ends_at - self._hops.loop.now
        is_late = thinking >= left
        took_all = not ambiguous or draw("took it") < 0.5
        taking = tuple(address for address in takers if took_all or address not in unheard)
        if taking:
            taken = Taken(
                self._scope.label.partition("/")[0],
                self._scope.owner,
                transaction.reverse_path,
                taking,
                content,
                transaction.size,
                self._plan.domain,
            )
            self._hops.loop.after(thinking, lambda: self._take(taken))
        process = self._scope.process
        passed_on = frozenset(transaction.notify) if self._plan.dsn else frozenset()
        if is_late:
            await process.pause(max(left, 0))
            everybody = takers if route not in ANSWERS_LAST else list(outcomes)
            unsure = _for(everybody, TIMED_OUT, outcomes)
            return self._told(TransactionResult(unsure, ambiguous=True, passed_on=passed_on))
        await process.pause(thinking + 1)
        if ambiguous:
            unsure = _for(unheard, LOST, outcomes)
            return self._told(TransactionResult(unsure, ambiguous=True, passed_on=passed_on))
        return self._told(TransactionResult(outcomes, passed_on=passed_on))

    async def close(self) -> None:
        # The garbage collector ends the tasks of the dead, and they come by here: the dead do nothing.
        if self._scope.process.alive and not self._hops.loop.is_closed():

            async def effect() -> None:
                pass

            await self._hops.gate.call("channel.close", effect)

    def _draw(self, what: str) -> float:
        return self._hops.draws.unit(f"{self._name} {what}")

    def _outcome(self, address: str) -> RecipientOutcome:
        roll = self._draw(f"outcome {address}")
        # Who is unknown is unknown at every attempt.
        if self._hops.draws.chance(f"{self._scope.label} {address} unknown", self._plan.refused):
            return REFUSALS[self._plan.refusal]
        return GREYLISTED if roll < self._plan.deferred else ACCEPTED

    def _take(self, taken: Taken) -> None:
        self._hops.history.note(
            self._hops.loop.now,
            self._plan.domain,
            f"{taken.message}: TAKEN for {', '.join(taken.recipients)}",
        )
        self._hops.taken(taken)

    def _told(self, result: TransactionResult) -> TransactionResult:
        if self._hops.history.on:
            words = ", ".join(
                f"{address} {outcome.event} {outcome.reply.code}"
                for address, outcome in result.outcomes.items()
            )
            process = self._scope.process
            text = f"{self._scope.label}: hears {words}{', ambiguous' if result.ambiguous else ''}"
            self._hops.history.note(self._hops.loop.now, process.name, text)
        return result


def _for(
    takers: Sequence[str], outcome: RecipientOutcome, others: dict[str, RecipientOutcome]
) -> dict[str, RecipientOutcome]:
    return {**others, **dict.fromkeys(takers, outcome)}


def zones_of(plans: Sequence[HopPlan]) -> Zones:
    """DNS as the plan has it: all hosts at loopback addresses, which the policy of a run allows."""
    zones: dict[str, Node] = {}
    for plan in plans:
        match plan.dns:
            case "nosuch":
                zones[plan.domain] = Node(fault="nxdomain")
            case "nullmx":
                zones[plan.domain] = Node(mx=[(0, "")])
            case "private":
                zones[plan.domain] = Node(a=["10.0.0.1"])
            case "mx":
                hosts = [(10, f"mx.{plan.domain}"), (10, f"mx2.{plan.domain}")]
                zones[plan.domain] = Node(mx=hosts, a=["127.0.0.1"])
                zones |= {host: Node(a=["127.0.0.1"]) for _, host in hosts}
            case _:
                zones[plan.domain] = Node(a=["127.0.0.1"])
    return zones


class TroubledResolver(ZoneResolver):
    """Zones whose servers now and then do not answer, as the plan has it."""

    def __init__(self, plans: Sequence[HopPlan], draws: Draws) -> None:
        super().__init__(zones_of(plans))
        self._trouble = {plan.domain: plan.dns_trouble for plan in plans}
        self._draws = draws
        self._counts: defaultdict[str, int] = defaultdict(int)

    async def mail_exchangers(self, domain: str) -> MailExchangers:
        name = f"{SCOPE.get().label} asks for {domain}"
        self._counts[name] = count = self._counts[name] + 1
        if self._draws.chance(f"{name} {count}", self._trouble.get(domain, 0)):
            raise TransientRefusal(Reply.of(451, "4.4.3", f"no answer about {domain}"), Reason.DNS_TROUBLE)
        self.lookups.clear()
        return await super().mail_exchangers(domain)
