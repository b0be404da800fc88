"""`--json` of `empathctl dns`; the rules are those of `documents`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from empath.control.dns_reading import Host, Lookup
from empath.control.documents import Document
from empath.domain.instant import format_instant
from empath.net.resolver import Finding
from empath.ports import DnsAnswer, DnsOverride


def lookup_document(lookup: Lookup, nameservers: Sequence[str], now: datetime) -> Document:
    route, refusal = lookup.route, lookup.refusal
    return {
        "domain": lookup.domain,
        "nameservers": list(nameservers),
        "mx": None if lookup.mx is None else _finding(lookup.mx, now),
        "route": lookup.policy.route.kind,
        "overridden": route is not None and route.overridden,
        "site": route.site if route else None,
        "hosts": [_host(host, now) for host in lookup.hosts],
        "order": lookup.policy.addresses.value,
        "endpoints": [
            {"host": endpoint.host, "address": str(endpoint.address), "port": endpoint.port}
            for endpoint in lookup.endpoints
        ],
        "refusal": None
        if refusal is None
        else {
            "code": refusal.reply.code,
            "status": str(refusal.reply.status),
            "text": refusal.reply.text,
            "reason": refusal.reason.value,
        },
    }


def listing_document(
    overrides: Mapping[str, DnsOverride], answers: Sequence[DnsAnswer], *, has_more: bool, now: datetime
) -> Document:
    return {
        "overrides": [override_document(domain, overrides[domain]) for domain in sorted(overrides)],
        "answers": [{"domain": answer.name, **_answer(answer, now)} for answer in answers],
        "has_more": has_more,
    }


def override_document(domain: str, override: DnsOverride | None) -> Document:
    return {
        "domain": domain,
        "mx": None if override is None else [str(exchanger) for exchanger in override.exchangers],
        "set_at": None if override is None else format_instant(override.set_at),
    }


def _finding(finding: Finding, now: datetime) -> Document:
    return {
        "name": finding.name,
        "type": finding.rdtype,
        "source": finding.source,
        "trouble": finding.trouble,
        "answer": None if finding.answer is None else _answer(finding.answer, now),
    }


def _answer(answer: DnsAnswer, now: datetime) -> Document:
    return {
        "exists": answer.exists,
        "canonical": answer.canonical,
        "records": list(answer.records),
        "authenticated": answer.authenticated,
        "asked_at": format_instant(answer.asked_at),
        "fresh_until": format_instant(answer.fresh_until),
        "ttl": max(0, round((answer.fresh_until - now).total_seconds())),
    }


def _host(host: Host, now: datetime) -> Document:
    return {
        "host": host.name,
        "questions": [_finding(finding, now) for finding in host.findings],
        "addresses": [{"address": str(each.address), "refused": each.refused} for each in host.addresses],
    }
