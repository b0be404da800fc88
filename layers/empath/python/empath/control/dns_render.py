"""`empathctl dns` for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from empath.control.dns_reading import Lookup
from empath.control.render import moment, plain
from empath.net.resolver import Finding
from empath.ports import DnsAnswer, DnsOverride

_SOURCES = {
    "override": "set by an operator, DNS is not asked",
    "memory": "known from before",
    "shared": "shared by another process",
    "asked": "asked just now",
    "stale": "past its time, and there is no other",
}


def show_lookup(console: Console, lookup: Lookup, nameservers: Sequence[str], now: datetime) -> None:
    console.print(plain(f"name servers  {', '.join(nameservers) or 'of this machine'}"))
    if lookup.policy.route.kind != "mx":
        console.print(
            f"policy        sends this mail by {lookup.policy.route.kind}; the rest has no say",
            style="yellow",
        )
    if lookup.mx is not None:
        _show_finding(console, lookup.mx, now)
    if lookup.route is not None:
        console.print(plain(f"site          {lookup.route.site}"))
    for host in lookup.hosts:
        console.print(plain(f"host          {host.name}", "bold"))
        for finding in host.findings:
            _show_finding(console, finding, now, indent="  ")
        for each in host.addresses:
            if each.refused:
                console.print(plain(f"    {each.address} is refused: {each.refused}", "yellow"))
    for number, endpoint in enumerate(lookup.endpoints, 1):
        console.print(plain(f"try {number}         {endpoint}", "green"))
    if lookup.refusal is not None:
        console.print(plain(f"outcome       {lookup.refusal.reply} ({lookup.refusal.reason.value})", "red"))


def show_listing(
    console: Console,
    overrides: Mapping[str, DnsOverride],
    answers: Sequence[DnsAnswer],
    *,
    has_more: bool,
    now: datetime,
) -> None:
    if overrides:
        table = Table("override", "hosts", "set", box=None)
        for domain in sorted(overrides):
            override = overrides[domain]
            hosts = ", ".join(str(exchanger) for exchanger in override.exchangers)
            table.add_row(plain(domain, "bold"), plain(hosts), moment(override.set_at, now))
        console.print(table)
        console.print()
    if not answers:
        console.print("No answer is shared.")
        return
    table = Table("domain", "answer", "DNSSEC", "asked", "fresh until", box=None)
    for answer in answers:
        table.add_row(
            plain(answer.name, "bold"),
            plain(_told(answer)),
            "yes" if answer.authenticated else "",
            moment(answer.asked_at, now),
            moment(answer.fresh_until, now),
        )
    console.print(table)
    if has_more:
        console.print("... and more; see --limit")


def _show_finding(console: Console, finding: Finding, now: datetime, *, indent: str = "") -> None:
    answer = finding.answer
    label = f"{indent}{finding.rdtype:<{14 - len(indent)}}"
    if answer is None:
        console.print(plain(f"{label}no answer: {finding.trouble}", "yellow"))
        return
    how = _SOURCES[finding.source]
    if finding.source != "override":
        seconds = (answer.fresh_until - now).total_seconds()
        how += f", for {seconds:.0f} s more" if seconds > 0 else ""
        how += ", DNSSEC" if answer.authenticated else ""
    if finding.trouble:
        how += f" ({finding.trouble})"
    console.print(plain(f"{label}{_told(answer)}   [{how}]"))


def _told(answer: DnsAnswer) -> str:
    alias = f"alias of {answer.canonical}: " if answer.canonical != answer.name else ""
    if not answer.exists:
        return f"{alias}does not exist"
    return alias + (", ".join(answer.records) or "nothing")
