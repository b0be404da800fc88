"""What a process knows of DNS comes from an operator, its memory, other processes, and name servers: in that
order, and with no call that is not needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from empath.domain.errors import ControlTrouble, TransientRefusal
from empath.domain.reason import Reason
from empath.net import resolver as module
from empath.net.dns_memory import MAX_NEGATIVE_TTL, MAX_STALE, MAX_TTL, TROUBLE_FOR
from empath.net.resolver import STORE_PAUSE, DnsResolver
from empath.ports import MailExchanger
from empath.ports.dns_cache import ORDERS_KEPT, DnsAnswer, read_override
from empath.testing.clock import START, ManualClock
from empath.testing.dns_server import DnsServer, serving
from empath.testing.faults import Faults
from empath.testing.memory_dns_cache import MemoryDnsCache
from empath.testing.zones import Node

ZONES: dict[str, Node] = {
    "example.test": Node(mx=[(10, "mx.example.test")]),
    "mx.example.test": Node(a=["192.0.2.1"], aaaa=["2001:db8::1"]),
}
OVERRIDE = read_override(["10 mx.new.test", "20 [192.0.2.7]"], START)


@dataclass
class Bench:
    server: DnsServer
    zones: dict[str, Node]
    clock: ManualClock = field(default_factory=ManualClock)
    store: MemoryDnsCache = field(default_factory=MemoryDnsCache)
    faults: Faults = field(default_factory=Faults)

    def process(self, **settings: Any) -> DnsResolver:
        cache = self.faults.wrap("cache", self.store, ControlTrouble)
        return DnsResolver([self.server.nameserver], cache=cache, now=self.clock.now, **settings)

    def calls(self) -> list[str]:
        """Calls of the shared store since the last time, without those for orders, and questions."""
        done = [call.removeprefix("cache.") for call in self.faults.calls if call != "cache.orders"]
        done += [f"ask {rdtype}" for _, rdtype, _ in self.server.queries]
        self.faults.calls.clear()
        self.server.queries.clear()
        return done


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    zones = dict(ZONES)
    async with serving(zones, ttl=600) as server:
        yield Bench(server, zones)


async def source(resolver: DnsResolver, name: str = "example.test") -> str:
    return (await resolver.find(name, "MX")).source


async def test_what_one_process_asked_others_read_and_nobody_needs_twice(bench: Bench) -> None:
    one, other = bench.process(), bench.process()
    assert await source(one) == "asked"
    assert bench.calls() == ["answer", "keep", "ask MX"]
    assert [await source(one) for _ in range(3)] == ["memory"] * 3
    assert bench.calls() == []
    assert await source(other) == "shared"
    assert bench.calls() == ["answer"]
    assert [await source(other) for _ in range(3)] == ["memory"] * 3
    assert bench.calls() == []


async def test_lookups_at_once_make_one_of_each_call(bench: Bench) -> None:
    resolver = bench.process()
    await asyncio.gather(*(resolver.mail_exchangers("example.test") for _ in range(50)))
    assert bench.calls() == ["answer", "keep", "ask MX"]


async def test_addresses_are_nobody_else_s_business(bench: Bench) -> None:
    await bench.process().addresses("mx.example.test")
    assert sorted(bench.calls()) == ["ask A", "ask AAAA"]


@pytest.mark.parametrize("name", ["nosuch.test", "mx.example.test"])
async def test_negative_answers_are_shared_too(bench: Bench, name: str) -> None:
    asked = await bench.process().find(name, "MX")
    found = await bench.process().find(name, "MX")
    assert (found.source, found.answer) == ("shared", asked.answer)


async def test_an_answer_that_is_good_for_seconds_is_not_shared(bench: Bench) -> None:
    bench.server.ttl = 59
    assert await source(bench.process()) == "asked"
    assert bench.calls() == ["answer", "ask MX"]


async def test_a_shared_answer_past_its_time_is_asked_for_anew_and_replaced(bench: Bench) -> None:
    await source(bench.process())
    bench.zones["example.test"] = Node(mx=[(5, "mx2.example.test")])
    bench.clock.advance(600)
    found = await bench.process().find("example.test", "MX")
    assert found.source == "asked"
    assert bench.store.kept["example.test"] == found.answer


async def test_what_others_shared_serves_past_its_time_while_dns_is_in_trouble(bench: Bench) -> None:
    before = await bench.process().find("example.test", "MX")
    bench.zones["example.test"] = Node(fault="servfail")
    bench.clock.advance(600 + MAX_STALE["MX"].total_seconds() - 1)
    resolver = bench.process()
    found = await resolver.find("example.test", "MX")
    assert (found.source, found.answer, found.trouble) == ("stale", before.answer, "SERVFAIL")
    bench.calls()
    assert await source(resolver) == "stale"
    assert bench.calls() == []


@pytest.mark.parametrize(("name", "longest"), [("example.test", MAX_TTL), ("nosuch.test", MAX_NEGATIVE_TTL)])
async def test_a_shared_answer_is_believed_no_longer_than_one_of_our_own(
    bench: Bench, name: str, longest: float
) -> None:
    await source(bench.process(), name)
    kept = bench.store.kept[name]
    bench.store.kept[name] = replace(kept, fresh_until=START + timedelta(days=3650))
    resolver = bench.process()
    assert await source(resolver, name) == "shared"
    bench.clock.advance(longest - 1)
    assert await source(resolver, name) == "memory"
    del bench.store.kept[name]
    bench.clock.advance(1)
    assert await source(resolver, name) == "asked"


async def test_settings_leave_the_shared_answers_alone(bench: Bench) -> None:
    assert await source(bench.process(sharing="none")) == "asked"
    assert bench.calls() == ["ask MX"]
    assert await source(bench.process(sharing="read")) == "asked"
    assert bench.calls() == ["answer", "ask MX"]
    await source(bench.process())
    assert await source(bench.process(sharing="read")) == "shared"
    assert await source(bench.process(sharing="none")) == "asked"


@pytest.mark.parametrize("call", ["answer", "keep"])
async def test_a_store_in_trouble_costs_no_mail_and_is_left_alone_for_a_while(
    bench: Bench, call: str
) -> None:
    bench.faults.fail(f"cache.{call}", times=None)
    bench.zones["other.test"] = bench.zones["third.test"] = ZONES["example.test"]
    resolver = bench.process()
    assert await source(resolver) == "asked"
    bench.calls()
    assert await source(resolver, "other.test") == "asked"
    assert bench.calls() == ["ask MX"]
    bench.faults.heal()
    bench.clock.advance(STORE_PAUSE.total_seconds())
    assert await source(resolver, "third.test") == "asked"
    assert bench.calls() == ["answer", "keep", "ask MX"]


async def test_a_store_that_hangs_is_not_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STORE_TIMEOUT", 0.05)

    class Hanging(MemoryDnsCache):
        async def answer(self, domain: str) -> DnsAnswer | None:
            await asyncio.Event().wait()
            return None

    resolver = DnsResolver([bench.server.nameserver], cache=Hanging(), now=bench.clock.now)
    assert await source(resolver) == "asked"


async def test_an_override_comes_before_everything_even_what_does_not_exist(bench: Bench) -> None:
    resolver = bench.process()
    await source(resolver)
    for domain in ("example.test", "nosuch.test"):
        await bench.store.override(domain, OVERRIDE)
        found = await resolver.mail_exchangers(domain.upper())
        assert found.overridden
        assert found.records == (MailExchanger(10, "mx.new.test"), MailExchanger(20, "[192.0.2.7]"))
    bench.calls()
    assert await source(resolver) == "override"
    assert bench.calls() == []
    await bench.store.override("example.test", None)
    assert await source(resolver) == "memory"


async def test_an_override_of_an_international_domain_is_found_however_it_is_written(bench: Bench) -> None:
    await bench.store.override("xn--bcher-kva.test", OVERRIDE)
    for domain in ("bücher.test", "BÜCHER.test", "xn--bcher-kva.test"):
        assert (await bench.process().mail_exchangers(domain)).overridden


async def test_without_knowing_of_overrides_no_mail_is_sent_anywhere(bench: Bench) -> None:
    bench.faults.fail("cache.orders")
    resolver = bench.process()
    with pytest.raises(TransientRefusal) as caught:
        await resolver.mail_exchangers("example.test")
    assert (str(caught.value.reply.status), caught.value.reason) == ("4.4.3", Reason.DNS_TROUBLE)
    assert await source(resolver) == "asked"


@pytest.mark.parametrize("domain", ["example.test", None])
async def test_what_was_cleared_is_asked_for_anew(bench: Bench, domain: str | None) -> None:
    resolver = bench.process()
    await source(resolver)
    bench.zones["example.test"] = Node(mx=[(5, "mx2.example.test")])
    bench.clock.advance(1)
    await bench.store.clear(domain, bench.clock.now())
    bench.clock.advance(1)
    found = await resolver.mail_exchangers("example.test")
    assert found.records == (MailExchanger(5, "mx2.example.test"),)
    assert await source(resolver) == "memory"


async def test_clearing_reaches_addresses_by_their_host_and_trouble(bench: Bench) -> None:
    resolver = bench.process()
    bench.zones["lame.test"] = Node(fault="servfail")
    await resolver.addresses("mx.example.test")
    await resolver.find("lame.test", "MX")
    bench.zones["mx.example.test"] = Node(a=["192.0.2.99"])
    bench.zones["lame.test"] = ZONES["example.test"]
    bench.clock.advance(1)
    for name in ("mx.example.test", "lame.test"):
        await bench.store.clear(name, bench.clock.now())
    assert [str(address) for address in await resolver.addresses("mx.example.test")] == ["192.0.2.99"]
    assert await source(resolver, "lame.test") == "asked"


async def test_a_shared_answer_of_before_a_clearing_is_not_believed(bench: Bench) -> None:
    """A process that has not heard of the clearing may have put it back."""
    before = (await bench.process().find("example.test", "MX")).answer
    assert before is not None
    bench.clock.advance(1)
    await bench.store.clear("example.test", bench.clock.now())
    bench.store.kept["example.test"] = before
    assert await source(bench.process()) == "asked"


def test_a_clearing_is_remembered_longer_than_any_answer_is_of_use() -> None:
    longest = max(MAX_STALE.values()) + timedelta(seconds=MAX_TTL)
    assert longest + TROUBLE_FOR < ORDERS_KEPT
