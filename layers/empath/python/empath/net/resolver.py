"""DNS over dnspython: MX and address records, with a cache that follows TTLs within bounds.

What the records mean for a delivery (null MX, preference, fallback to addresses) is not known here.
dnspython follows the CNAMEs of an answer and falls back to TCP when one is truncated; its errors are
mapped to refusals in this module and leave it in no other form.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver
from dns.rdata import Rdata
from dns.rdatatype import RdataType

from empath.domain.errors import PermanentRefusal, TransientRefusal
from empath.domain.network import IPAddress
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.net.names import to_a_labels
from empath.ports import MailExchanger

CACHE_SIZE = 10_000  # answers; about 1 kB each
MIN_TTL = 5.0  # seconds: one batch of jobs for a domain asks once, even with TTL 0
MAX_TTL = 3600.0  # seconds: a wrong record is gone within the hour
MAX_NEGATIVE_TTL = 300.0  # seconds: a domain that was just made can be written to soon (RFC 2308 §5)
QUERY_TIMEOUT = 3.0  # seconds for one nameserver to answer
LOOKUP_TIMEOUT = 12.0  # seconds for all tries; the delivery's retry does the waiting beyond that
MAX_CNAMES = 8  # further questions when a server answers with a bare CNAME


@dataclass(frozen=True, slots=True)
class _Found:
    records: tuple[Rdata, ...]


@dataclass(frozen=True, slots=True)
class _NoSuchName:
    pass


@dataclass(frozen=True, slots=True)
class _Trouble:
    what: str


_Answer = _Found | _NoSuchName | _Trouble


class DnsResolver:
    """Resolver over the given nameservers, or the system's when none are given.

    One per process; safe for any number of concurrent lookups, of which equal ones share a question.
    """

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        query_timeout: float = QUERY_TIMEOUT,
        lookup_timeout: float = LOOKUP_TIMEOUT,
        cache_size: int = CACHE_SIZE,
    ) -> None:
        """`nameservers` are `address`, `address:port` or `[IPv6 address]:port`.

        Raises ValueError for anything else, names of nameservers too. Timeouts are in seconds.
        """
        self._nameservers = [parse_nameserver(text) for text in nameservers]
        self._query_timeout = query_timeout
        self._lookup_timeout = lookup_timeout
        self._cache = _BoundedCache(cache_size)
        self._stub: dns.asyncresolver.Resolver | None = None
        self._asking: dict[tuple[str, RdataType], asyncio.Task[_Answer]] = {}

    async def mail_exchangers(self, domain: str) -> Sequence[MailExchanger]:
        try:
            name = to_a_labels(domain)
        except ValueError as error:
            raise _no_such_domain(f"Domain {domain} is no possible name: {error}") from error
        match await self._ask(name, RdataType.MX):
            case _NoSuchName():
                raise _no_such_domain(f"Domain {domain} does not exist")
            case _Trouble(what):
                raise _trouble(name, what)
            case _Found(records):
                return [
                    MailExchanger(record.preference, _text_of(record.exchange))  # type: ignore[attr-defined]
                    for record in records
                ]

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        try:
            name = to_a_labels(host)
        except ValueError:
            return []
        answers = await asyncio.gather(self._ask(name, RdataType.A), self._ask(name, RdataType.AAAA))
        found = [
            ipaddress.ip_address(record.address)  # type: ignore[attr-defined]
            for answer in answers
            if isinstance(answer, _Found)
            for record in answer.records
        ]
        if not found:
            for answer in answers:
                if isinstance(answer, _Trouble):
                    raise _trouble(name, answer.what)
        return found

    async def _ask(self, name: str, rdtype: RdataType) -> _Answer:
        """Join the lookup of the same name and type that is under way, or begin one.

        It runs as a task of its own, so that a caller that is cancelled does not take the others'
        answer with it; it ends within the lookup timeout.
        """
        task = self._asking.get((name, rdtype))
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(self._lookup(name, rdtype))
            self._asking[name, rdtype] = task
        return await asyncio.shield(task)

    async def _lookup(self, name: str, rdtype: RdataType) -> _Answer:
        try:
            return await self._follow(dns.name.from_text(name), rdtype)
        except dns.resolver.NXDOMAIN:
            return _NoSuchName()
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return _NoSuchName()
        except dns.resolver.LifetimeTimeout:
            return _Trouble("no answer in time")
        except dns.resolver.NoNameservers as error:
            return _Trouble(_complaint_of(error))
        except (dns.exception.DNSException, OSError, EOFError) as error:
            return _Trouble(type(error).__name__)
        finally:
            self._asking.pop((name, rdtype), None)

    async def _follow(self, name: dns.name.Name, rdtype: RdataType) -> _Answer:
        """Ask, and ask again for the target when a server gives a CNAME and nothing about its target."""
        stub = self._resolver()
        for _ in range(MAX_CNAMES):
            answer = await stub.resolve(name, rdtype, raise_on_no_answer=False, search=False)
            if answer.rrset is not None:
                return _Found(tuple(answer.rrset))
            if answer.canonical_name == name:
                return _Found(())
            name = answer.canonical_name
        return _Trouble("too many CNAMEs")

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """Made at the first lookup, so that an unreadable system configuration is DNS trouble."""
        if self._stub is None:
            stub = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                stub.nameservers = self._nameservers
            stub.timeout = self._query_timeout
            stub.lifetime = self._lookup_timeout
            stub.cache = self._cache
            self._stub = stub
        return self._stub


class _BoundedCache(dns.resolver.LRUCache):
    """dnspython's cache with TTLs kept within this module's bounds."""

    def put(self, key: dns.resolver.CacheKey, value: dns.resolver.Answer) -> None:
        now = time.time()
        longest = MAX_TTL if value.rrset is not None else MAX_NEGATIVE_TTL
        value.expiration = now + min(max(value.expiration - now, MIN_TTL), longest)
        super().put(key, value)


def parse_nameserver(text: str) -> dns.nameserver.Do53Nameserver:
    """Read `address`, `address:port` or `[IPv6 address]:port`; ValueError says what is wrong."""
    address, port = text.strip(), "53"
    if address.startswith("["):
        address, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif address.count(":") == 1:
        address, _, port = address.partition(":")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"nameserver {text!r}: {address!r} is not an IP address") from None
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"nameserver {text!r}: {port!r} is not a port")
    return dns.nameserver.Do53Nameserver(address, int(port))


def _text_of(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _complaint_of(error: dns.resolver.NoNameservers) -> str:
    """What the last nameserver did: its response code, or the kind of its error."""
    complaints = [entry[3] for entry in error.kwargs.get("errors") or ()]
    if not complaints:
        return "no nameserver"
    last = complaints[-1]
    return last if isinstance(last, str) else type(last).__name__


def _no_such_domain(text: str) -> PermanentRefusal:
    return PermanentRefusal(Reply.of(550, "5.1.2", text), Reason.NO_SUCH_DOMAIN)


def _trouble(name: str, what: str) -> TransientRefusal:
    reply = Reply.of(451, "4.4.3", f"DNS lookup of {name} failed: {what}")
    return TransientRefusal(reply, Reason.DNS_TROUBLE)
