"""Questions to name servers over dnspython, and its answers and errors in this project's words.

dnspython follows the CNAMEs of an answer and falls back to TCP when one is truncated. Imported at the first
question, since a warm process and one that finds its answers shared have none to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.resolver
from dns.rdata import Rdata

from empath.net.dns_memory import lifetime_of
from empath.net.nameserver import Nameserver
from empath.ports import DnsAnswer, MailExchanger
from empath.ports.dns_cache import RecordType

MAX_CNAMES = 8  # further questions when a server answers with a bare CNAME
MAX_RECORDS = 100  # kept of an answer, the most preferred ones: 64 KiB of them in 10,000 answers is too much
PAYLOAD = 1232  # octets over UDP: what passes unfragmented everywhere (DNS Flag Day 2020)


class DnsTrouble(Exception):
    """No usable answer; the text says what came instead."""


class DnsClient:
    """Asks the given name servers in their order, or the system's when none are given."""

    def __init__(self, nameservers: Sequence[Nameserver], *, query_timeout: float) -> None:
        """`query_timeout` is for one server to answer, in seconds."""
        self._nameservers = nameservers
        self._query_timeout = query_timeout
        self._stub: dns.asyncresolver.Resolver | None = None

    async def ask(self, name: str, rdtype: RecordType, *, now: datetime, lifetime: float) -> DnsAnswer:
        """The answer to one question within `lifetime` seconds. Raises DnsTrouble."""
        try:
            return await self._follow(name, rdtype, now, lifetime)
        except dns.resolver.LifetimeTimeout:
            raise DnsTrouble("no answer in time") from None
        except dns.resolver.NoNameservers as error:
            raise DnsTrouble(_complaint_of(error)) from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise DnsTrouble(type(error).__name__) from error

    async def _follow(self, name: str, rdtype: RecordType, now: datetime, lifetime: float) -> DnsAnswer:
        """Ask, and ask again for the target when a server gives a CNAME and nothing about its target."""
        stub = self._resolver()
        ttl, authenticated = float("inf"), True
        try:
            target = dns.name.from_text(name)
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return _answer(name, rdtype, now, ttl, exists=False)
        for _ in range(MAX_CNAMES):
            try:
                found = await stub.resolve(
                    target, rdtype, raise_on_no_answer=False, search=False, lifetime=lifetime
                )
            except dns.resolver.NXDOMAIN as error:
                responses = error.kwargs["responses"].values()
                ttl = min([ttl, *(response.resolve_chaining().minimum_ttl for response in responses)])
                authenticated &= all(response.flags & dns.flags.AD for response in responses)
                return _answer(name, rdtype, now, ttl, exists=False, authenticated=authenticated)
            ttl = min(ttl, found.chaining_result.minimum_ttl)
            authenticated &= bool(found.response.flags & dns.flags.AD)
            if found.rrset is not None or found.canonical_name == target:
                return _answer(
                    name,
                    rdtype,
                    now,
                    ttl,
                    canonical=_text_of(found.canonical_name),
                    records=_texts_of(tuple(found.rrset or ()), rdtype),
                    authenticated=authenticated,
                )
            target = found.canonical_name
        raise DnsTrouble("too many CNAMEs")

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """Made at the first question, so that an unreadable system configuration is DNS trouble."""
        if self._stub is None:
            stub = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                stub.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._nameservers]
            stub.timeout = self._query_timeout
            stub.use_edns(0, 0, PAYLOAD)
            stub.set_flags(dns.flags.RD | dns.flags.AD)  # AD asks for AD in the answer (RFC 6840 §5.7)
            self._stub = stub
        return self._stub


def _answer(
    name: str,
    rdtype: RecordType,
    now: datetime,
    ttl: float,
    *,
    exists: bool = True,
    canonical: str | None = None,
    records: tuple[str, ...] = (),
    authenticated: bool = False,
) -> DnsAnswer:
    return DnsAnswer(
        name=name,
        rdtype=rdtype,
        exists=exists,
        canonical=canonical or name,
        records=records,
        authenticated=authenticated,
        asked_at=now,
        fresh_until=now + lifetime_of(ttl, negative=not records),
    )


def _texts_of(records: Sequence[Rdata], rdtype: RecordType) -> tuple[str, ...]:
    if rdtype == "MX":
        exchangers = sorted(
            MailExchanger(record.preference, _text_of(record.exchange))  # type: ignore[attr-defined]
            for record in records
        )
        return tuple(str(exchanger) for exchanger in exchangers[:MAX_RECORDS])
    return tuple(record.to_text() for record in records[:MAX_RECORDS])


def _text_of(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _complaint_of(error: dns.resolver.NoNameservers) -> str:
    """What the last nameserver did: its response code, or the kind of its error."""
    complaints = [entry[3] for entry in error.kwargs.get("errors") or ()]
    if not complaints:
        return "no nameserver"
    last = complaints[-1]
    return last if isinstance(last, str) else type(last).__name__
