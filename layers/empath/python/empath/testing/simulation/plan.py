"""What a seed stands for: the mail of a run, the world that it meets, and how often things go wrong.

A plan is made before anything runs and is complete but for the faults: those are drawn call by call, by
name (`faults.py`). The first run of a seed notes every fault that happened; shrinking repeats it with
fewer messages (`Plan.messages`) and fewer faults (`Plan.only_faults`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from empath.domain.lifecycle import DEFAULT_TYPES, LIFECYCLE_TYPES, LifecycleType
from empath.domain.policy import OnAmbiguous
from empath.domain.records import OperationName
from empath.domain.route import RouteKind
from empath.testing.simulation.draws import Draws
from empath.testing.simulation.loop import DAY, HOUR, MINUTE, SECOND

FORMAT = 6
"""Raised whenever the same seed begins to mean another history."""

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class MessagePlan:
    number: int
    at: int
    """When its client connects, in microseconds."""
    sender: str | None
    recipients: tuple[str, ...]
    size: int
    prepend: str = ""
    notify: tuple[tuple[str, ...] | None, ...] = ()
    """NOTIFY of each recipient."""
    automatic: str | None = None
    """What the message says in Auto-Submitted."""
    tenant: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None

    @property
    def label(self) -> str:
        return f"m{self.number}"


@dataclass(frozen=True, slots=True)
class HopPlan:
    """How a destination behaves; rates are per connection or per recipient and attempt."""

    domain: str
    connect_refused: float = 0
    refused: float = 0
    refusal: str = "unknown"
    """What it says then: `unknown`, `full` or `spam`."""
    deferred: float = 0
    lost_before: float = 0
    """The connection is lost before the final dot: nothing was taken."""
    ambiguous: float = 0
    """The connection is lost after it: half of them were taken."""
    slow: float = 0
    dsn: bool = False
    """It has DSN, and is told NOTIFY."""
    down_until: int = 0
    dns: str = "ok"
    """`ok`, `mx`, `nullmx`, `nosuch` or `private`."""
    dns_trouble: float = 0
    route: RouteKind = "mx"
    on_ambiguous: OnAmbiguous = "retry"

    @property
    def policy(self) -> Mapping[str, Any]:
        """What policy says of this domain alone."""
        settings: dict[str, Any] = {"on_ambiguous": self.on_ambiguous}
        match self.route:
            case "smarthost" | "lmtp":
                settings["route"] = {"kind": self.route, "hosts": [{"host": self.domain}]}
            case "webhook":
                url = f"https://{self.domain}/mail"
                settings["route"] = {"kind": self.route, "url": url, "secret": "key"}
            case _:
                settings["route"] = {"kind": self.route}
        return settings


@dataclass(frozen=True, slots=True)
class OperationPlan:
    """What an operator does to all deliveries of a message; number 0 is every held delivery."""

    message: int
    at: int
    action: OperationName
    report: bool = False
    wait: float = 0


@dataclass(frozen=True, slots=True)
class Setup:
    """The deployment of a run."""

    deliver_timeout: int
    timeout: int
    """Seconds that any other function has."""
    visibility_margin: int
    concurrency: int
    batch: int
    policy: Mapping[str, Any]
    reports: Mapping[str, Any]
    """The reports part of everybody's tenant policy."""
    suppression: Mapping[str, Any] | None
    """The suppression part of it; None: the deployment has no list."""
    listed: tuple[str, ...]
    """Addresses that an operator put on the list before."""
    event_types: tuple[LifecycleType, ...]
    operations: tuple[OperationPlan, ...]
    released_at: int | None
    """When all that is held is released; None: never."""
    stream_batch: int
    stream_window: int
    """How long the journal's batches are gathered."""
    faults_until: int
    rates: Mapping[str, float]
    """By kind of fault: the chance of it at a call that can have it."""
    outages: tuple[tuple[str, int, int], ...]
    """Ports that do not answer at all from one moment to another."""
    tick: int
    """Minutes between two runs of the clock function: one, or more where it keeps missing its minute."""
    garbage: bool
    """An unreadable job lies on every queue."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    setup: Setup
    hops: tuple[HopPlan, ...]
    messages: tuple[MessagePlan, ...]
    only_faults: frozenset[str] | None = None
    """The sites of the faults that may happen; None: all that the seed draws."""

    def shrunk(self, messages: tuple[MessagePlan, ...], faults: frozenset[str]) -> Plan:
        return replace(self, messages=messages, only_faults=faults)


# Every kind is switched on for about half of the seeds (swarm testing: rare mixtures come about that one
# setting for all would drown), with one of its rates.
RATES: Mapping[str, tuple[float, ...]] = {
    "trouble": (0.003, 0.01, 0.05, 0.2),
    "crash": (0.001, 0.005, 0.02),
    "pause": (0.0005, 0.002, 0.01),
    "slow": (0.002, 0.02),
    "partial": (0.02, 0.2),
    "duplicate": (0.05, 0.3),
    "lost": (0.05,),
    "unacknowledged": (0.02, 0.2),
    "lag": (0.05, 0.3),
    "replay": (0.05, 0.3),
    "missed": (0.1, 0.5),
}

OUTAGES = ("ledger", "ledger", "queue", "spool", "control", "resolver", "audit", "events", "suppressions")
"""Ports that an outage can be of."""

KINDS = ("good",) * 5 + ("mixed",) * 4 + ("greylist", "down", "refusing", "refusing", "dead", "dns")
"""Of next hops. A destination that never accepts costs the simulator fifteen times a good one."""

ROUTES: tuple[RouteKind, ...] = ("mx", "mx", "mx", "mx", "mx", "smarthost", "lmtp", "lmtp", "webhook", "sink")
REFUSALS = ("unknown", "unknown", "full", "spam")
ON_AMBIGUOUS: tuple[OnAmbiguous, ...] = ("retry", "retry", "retry", "retry", "hold", "fail")

ACTIONS: tuple[OperationName, ...] = ("hold", "hold", "release", "retry", "delete")

OPTED_OUT = "shop"
"""A tenant that does without the suppression list."""
TENANTS = (*[None] * 4, OPTED_OUT)
SUPPRESSIONS: tuple[Mapping[str, Any] | None, ...] = (None, {}, {}, {"days": 1})
TOLD: tuple[tuple[LifecycleType, ...], ...] = (DEFAULT_TYPES, LIFECYCLE_TYPES, ("sent", "failed"))

DOMAINS = ("a.test", "b.test", "c.test", "d.test", "e.test", "f.test")
POLICIES: tuple[Mapping[str, Any], ...] = (
    {},
    {},
    {"expiry": 3600.0},
    {"expiry": 7200.0, "first_delay": 2.0, "max_attempts": 6},
    {"expiry": 172_800.0, "first_delay": 300.0, "factor": 3.0},
    {"expiry": 86_400.0, "max_attempts": 4, "max_delay": 7200.0},
)
GATES: tuple[Mapping[str, Any], ...] = (
    *[{}] * 4,
    {"circuit": {"enabled": False}},
    {"circuit": {"failures": 2, "open_for": 1800.0}},
    {"rate": "1/s", "max_connections": 1},
    {"rate": {"limit": "2/min", "burst": 4, "shards": 2}, "max_connections": 2},
    {"max_connections": 1},
)
DELAYS: tuple[Mapping[str, float | None], ...] = (
    {},
    {"delay_report_after": 60.0},
    {"delay_report_after": 1800.0},
    {"delay_report_after": None},
)
REPORTS: tuple[Mapping[str, Any], ...] = (
    *[{}] * 6,
    {"max_per_hour": 2},
    {"max_per_hour": 2},
    {"full_message_up_to": 0},
    {"enabled": False},
)
USERS = ("user", "user", "name", "User", "other")
NOTIFY: tuple[tuple[str, ...] | None, ...] = (
    *[None] * 4,
    ("NEVER",),
    ("FAILURE",),
    ("SUCCESS",),
    ("DELAY",),
    ("FAILURE", "DELAY"),
    ("SUCCESS", "FAILURE"),
    ("SUCCESS", "FAILURE", "DELAY"),
)
AUTOMATIC = (*[None] * 8, "auto-replied", "auto-generated")
TIMEOUTS = ((780, 60, 60), (780, 60, 60), (20, 20, 20), (60, 30, 40))


def plan_of(seed: int) -> Plan:
    """The plan of a seed. Raises ValueError for a number that is no seed."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"a seed is a whole number from 0 to {MAX_SEED}")
    draws = Draws(seed)
    messages = tuple(_messages(draws))
    setup = _setup(draws, messages)
    return Plan(seed, setup, tuple(_hop(draws, domain) for domain in DOMAINS), messages)


def _setup(draws: Draws, messages: Sequence[MessagePlan]) -> Setup:
    deliver, other, margin = draws.choice("timeouts", TIMEOUTS)
    faults_until = draws.choice("faults until", (10 * MINUTE, HOUR, 6 * HOUR, 2 * DAY, 6 * DAY))
    # A storm of days would only show the same storm again and again.
    mildness = 0 if faults_until <= HOUR else 1
    retry = {**draws.choice("policy", POLICIES), **draws.choice("delay report", DELAYS)}
    return Setup(
        deliver_timeout=deliver,
        timeout=other,
        visibility_margin=margin,
        concurrency=1 + draws.below("concurrency", 4),
        batch=draws.choice("batch", (1, 3, 10, 10)),
        policy={"allow_addresses": ["127.0.0.0/8"], "retry": retry, **draws.choice("gates", GATES)},
        reports=draws.choice("reports", REPORTS),
        suppression=draws.choice("suppression", SUPPRESSIONS),
        listed=tuple(_listed(draws, messages)),
        event_types=draws.choice("event types", TOLD),
        operations=tuple(_operations(draws, messages)),
        released_at=max(faults_until, *(message.at for message in messages)) + HOUR
        if draws.chance("released", 0.5)
        else None,
        stream_batch=draws.choice("stream batch", (5, 100, 100)),
        stream_window=draws.choice("stream window", (SECOND, 10 * SECOND, 20 * SECOND)),
        faults_until=faults_until,
        rates={
            kind: draws.choice(f"rate {kind}", rates[: len(rates) - mildness] or rates)
            if draws.chance(f"with {kind}", 0.5)
            else 0.0
            for kind, rates in RATES.items()
        },
        outages=tuple(_outages(draws, messages, faults_until)),
        tick=draws.choice("tick", (1, 1, 3, 10)),
        garbage=draws.chance("garbage", 0.1),
    )


def _operations(draws: Draws, messages: Sequence[MessagePlan]) -> Iterator[OperationPlan]:
    for number in range(draws.choice("operations", (0, 0, 3, 12))):
        name = f"operation {number}"
        message = draws.choice(f"{name} of", messages)
        # Most often while the first attempts are made.
        later = int(draws.unit(f"{name} at") ** 8 * 2 * HOUR)
        yield OperationPlan(
            message.number,
            message.at + later,
            draws.choice(f"{name} action", ACTIONS),
            report=draws.chance(f"{name} report", 0.5),
            wait=draws.choice(f"{name} wait", (0.0, 0.0, 1800.0)),
        )


def _listed(draws: Draws, messages: Sequence[MessagePlan]) -> Iterator[str]:
    if draws.chance("an operator's list", 0.3):
        yield draws.choice("listed", draws.choice("listed of", messages).recipients).lower()


def _outages(draws: Draws, messages: Sequence[MessagePlan], until: int) -> Iterator[tuple[str, int, int]]:
    for number in range(draws.choice("outages", (0, 0, 1, 3))):
        port = draws.choice(f"outage {number}", OUTAGES)
        # When there is mail at work, or else nobody would notice.
        start = draws.choice(f"outage {number} at", messages).at
        start += int(draws.unit(f"outage {number} start") ** 2 * MINUTE)
        length = draws.choice(f"outage {number} length", (30 * SECOND, 5 * MINUTE, 40 * MINUTE))
        if start < until:
            yield port, start, min(start + length, until)


def _hop(draws: Draws, domain: str) -> HopPlan:
    def draw(name: str) -> float:
        return draws.unit(f"hop {domain} {name}")

    kind = draws.choice(f"hop {domain}", KINDS)
    rough = draw("rough") < 0.3
    common: dict[str, Any] = {
        "ambiguous": 0.2 * draw("ambiguous") if rough else 0.01,
        "lost_before": 0.2 * draw("lost") if rough else 0.01,
        "slow": 0.3 if draw("slow") < 0.2 else 0.0,
        "dns_trouble": 0.3 if draw("dns trouble") < 0.2 else 0.0,
    }
    common["dns"] = "mx" if draw("mx") < 0.5 else "ok"
    common["route"] = route = "mx" if kind == "dns" else draws.choice(f"hop {domain} route", ROUTES)
    common["dsn"] = draw("dsn") < 0.4 and route not in ("webhook", "sink")
    common["on_ambiguous"] = draws.choice(f"hop {domain} on ambiguous", ON_AMBIGUOUS)
    if common["on_ambiguous"] != "retry":
        common["ambiguous"] = max(common["ambiguous"], 0.1)
    common["refusal"] = draws.choice(f"hop {domain} refusal", REFUSALS)
    match kind:
        case "mixed":
            refusing: dict[str, Any] = {"refused": 0.3 * draw("refused"), "deferred": 0.6 * draw("deferred")}
            return HopPlan(domain, connect_refused=0.2 * draw("down"), **refusing, **common)
        case "greylist":
            return HopPlan(domain, down_until=int(draw("until") * 2 * HOUR), deferred=0.5, **common)
        case "down":
            return HopPlan(domain, down_until=int(draw("until") * 8 * DAY), **common)
        case "refusing":
            return HopPlan(domain, refused=0.9, **common)
        case "dead":
            return HopPlan(domain, deferred=0.95, **common)
        case "dns":
            return HopPlan(domain, dns=draws.choice(f"hop {domain} dns", ("nullmx", "nosuch", "private")))
        case _:
            return HopPlan(domain, **common)


def _messages(draws: Draws) -> list[MessagePlan]:
    count = draws.choice("messages", (1, 2, 3, 5, 8, 13, 21, 34))
    window = draws.choice("window", (SECOND, MINUTE, HOUR, DAY))
    return [_message(draws, number, window) for number in range(1, count + 1)]


def _message(draws: Draws, number: int, window: int) -> MessagePlan:
    name = f"message {number}"
    recipients = draws.choice(f"{name} recipients", (1, 1, 1, 2, 2, 3, 5))
    if draws.chance(f"{name} is large", 0.002):
        recipients = 130
    users = [
        f"{draws.choice(f'{name} user {part % 7}', USERS)}{part}"
        f"@{draws.choice(f'{name} domain {part % 7}', DOMAINS)}"
        for part in range(recipients)
    ]
    null = draws.chance(f"{name} null", 0.15)
    return MessagePlan(
        number=number,
        at=int(draws.unit(f"{name} at") * window),
        sender=None if null else f"sender@{draws.choice(f'{name} sender', DOMAINS)}",
        recipients=tuple(users),
        size=40 + draws.below(f"{name} size", 400),
        prepend=f"Received: from client by relay; {number}\r\n" if number % 2 else "",
        notify=tuple(draws.choice(f"{name} notify {part % 7}", NOTIFY) for part in range(recipients)),
        automatic=draws.choice(f"{name} automatic", AUTOMATIC),
        tenant=draws.choice(f"{name} tenant", TENANTS),
        ret=draws.choice(f"{name} ret", (None, "FULL", "HDRS")),
    )
