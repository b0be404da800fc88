"""`empathctl dns`: what the relay believes about domains, why, and what an operator says instead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from empath.control import dns_documents, dns_reading, dns_render
from empath.control.changing import change
from empath.control.errors import FAILED, BadUsage
from empath.control.options import SETTINGS, AsJson, StateDir, new_console, print_json
from empath.control.target import DEFAULT_STATE_DIR, DnsPorts, Target, find_target
from empath.net.nameserver import parse_nameserver
from empath.net.resolver import DnsResolver
from empath.pipeline.operator_log import Entry
from empath.ports import DnsAnswer, DnsOrders, DnsOverride
from empath.system import UlidSource

T = TypeVar("T")

dns = typer.Typer(help="Where mail for a domain goes, and why.", **SETTINGS)

DomainName = Annotated[str, typer.Argument(metavar="DOMAIN", help="As after the @ of an address.")]
SOON = "every function knows within 30 seconds"


@dns.command()
def lookup(
    domain: DomainName,
    nameserver: Annotated[
        list[str] | None,
        typer.Option(help="address[:port] to ask; several times. Else the local stack's, or this machine's."),
    ] = None,
    hostname: Annotated[str, typer.Option(help="The relay's own name, to see loops.")] = "",
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Every step from a domain to the addresses that are tried. Exits with 1 when mail would be refused.

    What the relay shares and what operators set is read from its table; name servers are asked from this
    machine, and nothing is written.
    """
    wanted = dns_reading.read_domain(domain)
    for server in nameserver or ():
        _check_nameserver(server)
    target = find_target(state_dir)
    servers = tuple(nameserver or target.nameservers)

    async def work(ports: DnsPorts) -> dns_reading.Lookup:
        resolver = DnsResolver(servers, cache=ports.cache, sharing="read")
        policy = await ports.control.policy(wanted)
        return await dns_reading.look_up(wanted, resolver, policy, UlidSource(), own_name=hostname)

    found = _with_dns(target, work)
    now = datetime.now(UTC)
    if as_json:
        print_json(dns_documents.lookup_document(found, servers, now))
    else:
        dns_render.show_lookup(new_console(), found, servers, now)
    if found.refusal is not None:
        raise typer.Exit(FAILED)


@dns.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Answers shown at most.")] = 100,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """All overrides, and the answers that processes share, by name. Reads the whole control table."""

    async def work(ports: DnsPorts) -> tuple[DnsOrders, Sequence[DnsAnswer], bool]:
        orders = await ports.cache.orders()
        answers, has_more = await ports.cache.answers(limit)
        return orders, answers, has_more

    orders, answers, has_more = _with_dns(find_target(state_dir), work)
    now = datetime.now(UTC)
    if as_json:
        print_json(
            dns_documents.listing_document(orders.overrides, answers, has_more=has_more, now=now),
        )
    else:
        dns_render.show_listing(new_console(), orders.overrides, answers, has_more=has_more, now=now)


@dns.command()
def clear(
    domain: Annotated[
        str | None, typer.Argument(metavar="[DOMAIN]", help="A domain, or a host for its addresses.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever was answered.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Forget what name servers answered, so that they are asked anew. Overrides stay."""
    if (domain is None) is not everything:
        raise BadUsage("either a domain or --all is needed")
    name = None if domain is None else dns_reading.read_name(domain)

    async def forget(ports: DnsPorts, line: Entry) -> int:
        deleted = await ports.cache.clear(name, datetime.now(UTC))
        line.after = f"{deleted} shared answers deleted"
        return deleted

    target = find_target(state_dir)
    deleted = change(target, "dns clear", name or "everything", target.dns, forget)
    if as_json:
        print_json({"domain": name, "deleted": deleted})
    else:
        what = "everything" if name is None else name
        new_console().print(f"{what} is forgotten ({deleted} shared answers deleted); {SOON}", markup=False)


@dns.command()
def override(
    domain: DomainName,
    hosts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HOST]...", help="Names or addresses by preference; equal ones with commas between."
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Let DNS have its say again.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: AsJson = False,
) -> None:
    """Say where mail for a domain goes, in place of its MX records; replaces an override of before."""
    if bool(hosts) is remove:
        raise BadUsage("either hosts or --remove is needed")
    name = dns_reading.read_name(domain)
    wanted = dns_reading.read_hosts(hosts, datetime.now(UTC)) if hosts else None

    async def put(ports: DnsPorts, line: Entry) -> None:
        line.before = _hosts_of((await ports.cache.orders()).overrides.get(name))
        await ports.cache.override(name, wanted)
        line.after = _hosts_of(wanted)

    target = find_target(state_dir)
    change(target, "dns override", name, target.dns, put)
    if as_json:
        print_json({"override": dns_documents.override_document(name, wanted)})
    elif wanted is None:
        new_console().print(f"DNS has its say about {name} again; {SOON}", markup=False)
    else:
        new_console().print(f"mail for {name} goes to {_hosts_of(wanted)}; {SOON}", markup=False)


def _hosts_of(override: DnsOverride | None) -> str:
    if override is None:
        return "as DNS says"
    return ", ".join(str(exchanger) for exchanger in override.exchangers)


def _check_nameserver(text: str) -> None:
    try:
        parse_nameserver(text)
    except ValueError as error:
        raise BadUsage(str(error)) from None


def _with_dns(target: Target, work: Callable[[DnsPorts], Awaitable[T]]) -> T:
    async def run() -> T:
        async with target.dns() as ports:
            return await work(ports)

    return asyncio.run(run())
