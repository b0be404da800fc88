"""What a Dialer says of NOTIFY: passed on where the next hop has DSN and took it, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from empath.ports import Dialer, Endpoint, Transaction
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.smtp_sink import SmtpSink
from tests.unit.net.sending import ANN, BOB, dialer, endpoint, transaction

ASKING = replace(transaction(), recipients=[ANN, BOB], notify={ANN: ("SUCCESS",), BOB: ("NEVER",)})


async def passed_on(port: Dialer, to: Endpoint, mail: Transaction) -> frozenset[str]:
    channel = await port.connect(to, deadline=20)
    result = await channel.transact(mail)
    await channel.close()
    return result.passed_on


@pytest.mark.parametrize("adapter", ["memory", "smtp"])
@pytest.mark.parametrize(
    ("has_dsn", "mail", "expected"),
    [
        (True, ASKING, {ANN, BOB}),
        (False, ASKING, set()),
        (True, replace(ASKING, notify={}), set()),
    ],
)
async def test_notify_is_passed_on_to_a_next_hop_with_dsn(
    adapter: str, has_dsn: bool, mail: Transaction, expected: set[str]
) -> None:
    extensions = ("PIPELINING", "DSN") if has_dsn else ("PIPELINING",)
    async with SmtpSink(extensions=extensions) as sink:
        port: Dialer = dialer()
        if adapter == "memory":
            port = scripted = ScriptedDialer()
            scripted.host(endpoint(sink).host).dsn = has_dsn
        assert await passed_on(port, endpoint(sink), mail) == expected


async def test_who_is_in_another_transaction_is_told_all_the_same() -> None:
    async with SmtpSink(extensions=("PIPELINING", "DSN", "LIMITS RCPTMAX=1")) as sink:
        assert await passed_on(dialer(), endpoint(sink), ASKING) == {ANN, BOB}
        assert len(sink.accepted) == 2
