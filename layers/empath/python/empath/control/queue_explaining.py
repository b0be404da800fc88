"""Why a message is where it is: what happened, which rule holds it back, what comes, and what can be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from empath.control.queue_facts import Facts
from empath.control.story import HELD_BACK, Next, next_of, told_attempt, told_operation
from empath.domain.delivery_state import State
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.records import DeliveryRecord
from empath.domain.route import MxRoute, WebhookRoute

LONG = timedelta(minutes=15)
"""After so long without an attempt, a queued delivery's job may be lost, or its queue far behind."""

FEW = 3
"""Recipients that are told one by one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds a delivery back, until when if that is known."""

    name: str
    text: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one delivery."""

    record: DeliveryRecord
    happened: Sequence[str]
    route: str
    tls: str
    held_back: Sequence[Rule]
    next: Next
    advice: Sequence[str]


def explain(facts: Facts, now: datetime) -> list[Explanation]:
    """An explanation of every delivery."""
    return [
        Explanation(
            record=record,
            happened=list(_happened(record, now)),
            route=_route(record, facts),
            tls=_tls(record, facts.policies.get(record.domain)),
            held_back=list(_rules(record, facts, now)),
            next=next_of(record, now, facts.circuits),
            advice=list(_advice(record, facts, now)),
        )
        for record in facts.deliveries
    ]


def _happened(record: DeliveryRecord, now: datetime) -> Iterator[str]:
    if not record.attempts:
        yield "never tried"
    else:
        count = record.attempt - 1
        ended = "1 attempt" if count == 1 else f"{count} attempts"
        last = record.attempts[-1]
        where = f" to {last.next_hop}" if last.next_hop else ""
        yield f"{ended}, the last began {last.started:%Y-%m-%d %H:%M:%S} UTC{where}: " + told_attempt(
            last, record, now
        )
        doubtful = sum(attempt.ambiguous for attempt in record.attempts)
        if doubtful:
            yield f"{doubtful} of them may have sent it although nobody said so"
    if record.operation is not None:
        yield told_operation(record.operation)
    by_story: dict[str, list[str]] = {}
    for address, known in sorted(record.recipients.items()):
        reply = f": {known.reply}" if known.reply is not None else ""
        reason = f" ({known.reason})" if known.reason is not None else ""
        by_story.setdefault(f"{known.state}{reply}{reason}", []).append(address)
    for story, addresses in by_story.items():
        more = f" and {len(addresses) - FEW} more" if len(addresses) > FEW else ""
        yield f"{', '.join(addresses[:FEW])}{more}: {story}"


def _route(record: DeliveryRecord, facts: Facts) -> str:
    policy = facts.policies.get(record.domain)
    site = f", site {record.site}" if record.site else ""
    if policy is None:
        return f"not known{site}"
    if not isinstance(policy.route, MxRoute):
        hosts = getattr(policy.route, "hosts", ())
        where = ", ".join(str(host.host) for host in hosts)
        if isinstance(policy.route, WebhookRoute):
            where = policy.route.url
        return f"{policy.route.kind}{f' {where}' if where else ''}, as policy says{site}"
    override = facts.overrides.get(record.domain)
    if override is not None:
        return f"{_list(override.exchangers)}, as an operator says (`empathctl dns override`){site}"
    answer = facts.answers.get(record.domain)
    if answer is None:
        return f"MX of {record.domain}, as DNS says at the attempt{site}"
    if answer.is_negative:
        said = "the domain has no MX" if answer.exists else "there is no such domain"
        return f"{said}, as DNS said {answer.asked_at:%Y-%m-%d %H:%M} UTC{site}"
    proved = ", proved by DNSSEC" if answer.authenticated else ""
    return f"MX {_list(answer.records)}, as DNS said {answer.asked_at:%Y-%m-%d %H:%M} UTC{proved}{site}"


def _list(hosts: Sequence[object]) -> str:
    return ", ".join(map(str, hosts))


def _tls(record: DeliveryRecord, policy: DomainPolicy | None) -> str:
    mode = f"policy {policy.tls}" if policy is not None else "policy not known"
    last = next((attempt for attempt in reversed(record.attempts) if attempt.next_hop), None)
    if last is None:
        return f"{mode}; no connection yet"
    return f"{mode}; the last connection was {f'over {last.tls}' if last.tls else 'in plain'}"


def _rules(record: DeliveryRecord, facts: Facts, now: datetime) -> Iterator[Rule]:
    if record.lease is not None and record.lease.until > now:
        yield Rule("lease", "a worker has it now", record.lease.until)
    states = {known.state for known in record.recipients.values()}
    if State.HELD in states:
        yield Rule("held", _why_held(record))
    if record.status in (State.QUEUED, State.DEFERRED):
        yield from _waits_for(record, facts, now)
    for address, known in sorted(record.recipients.items()):
        if known.reason is Reason.SUPPRESSED:
            entry = facts.suppressions.get(address)
            in_force = "in force" if entry is not None else "over or removed since"
            yield Rule(
                "suppression",
                f"{address} was on the suppression list; the entry is {in_force}",
                entry.until if entry is not None else None,
            )


def _why_held(record: DeliveryRecord) -> str:
    if any(
        known.state is State.HELD and known.reason is Reason.AMBIGUOUS for known in record.recipients.values()
    ):
        return "it may have arrived, and policy (`on_ambiguous`) holds such mail until somebody decides"
    operation = record.operation
    if operation is not None and operation.action == "hold":
        return f"an operator holds it: {told_operation(operation)}"
    return "held until somebody releases it"


def _waits_for(record: DeliveryRecord, facts: Facts, now: datetime) -> Iterator[Rule]:
    policy = facts.policies.get(record.domain)
    if policy is not None and policy.frozen:
        yield Rule("frozen", f"mail to {record.domain} is frozen: nothing is tried until it is unfrozen")
    circuit = facts.circuits.get(record.site or "")
    until = circuit.blocked_until(now) if circuit is not None else None
    if circuit is not None and until is not None:
        opened = "" if circuit.opened_at is None else f" since {circuit.opened_at:%Y-%m-%d %H:%M} UTC"
        yield Rule("circuit", f"the circuit of its site is open{opened}: {circuit.cause}", until)
    gate = HELD_BACK.get(record.reason) if record.reason is not None else None
    if gate is not None:
        is_told = until is not None or (policy is not None and policy.frozen)
        if not is_told:
            yield Rule("gate", gate, record.next_attempt_at)
    elif record.status is State.DEFERRED:
        asked = next(
            (attempt.retry_after for attempt in record.attempts[-1:] if attempt.retry_after is not None), None
        )
        due = record.next_attempt_at
        if due is not None and due > now:
            hint = f" (the next hop asked for {asked} s)" if asked is not None else ""
            last = ", which will be the last" if due >= record.expires else ""
            yield Rule("retry", f"the pause before attempt {record.attempt}{last}{hint}", due)


def _advice(record: DeliveryRecord, facts: Facts, now: datetime) -> Iterator[str]:
    which = f"{record.message_id} --domain {record.domain}"
    circuit, policy = facts.circuits.get(record.site or ""), facts.policies.get(record.domain)
    is_open = circuit is not None and circuit.blocked_until(now) is not None
    if record.lease is not None and record.lease.until > now:
        return
    if policy is not None and policy.frozen and record.status in (State.QUEUED, State.DEFERRED):
        yield f"let mail go there again: empathctl queue unfreeze {record.domain}"
        return
    if is_open and record.status in (State.QUEUED, State.DEFERRED):
        yield f"try the site again at once: empathctl circuit reset {record.site}"
    if State.HELD in {known.state for known in record.recipients.values()}:
        yield f"try it now: empathctl queue release {which}"
        yield f"give it up: empathctl queue delete {which} [--report]"
    elif record.status is State.DEFERRED:
        yield f"try it now: empathctl queue retry {which}"
    elif record.status is State.QUEUED and not is_open and now - record.received_at > LONG:
        yield f"its queue is behind (empathctl queue list) or its job lost: empathctl queue retry {which}"
    for address, known in sorted(record.recipients.items()):
        if known.reason is Reason.SUPPRESSED:
            yield f"let mail to it go again: empathctl suppress remove {address}"
