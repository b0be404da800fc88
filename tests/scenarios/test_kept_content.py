"""The content of a settled message goes, unless its tenant's policy keeps it, for as long as it says."""

from __future__ import annotations

from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.domain.outcome import Failed
from empath.domain.reply import Reply
from empath.pipeline.accept import Additions, spool_key_of
from empath.testing.faults import AFTER, BEFORE, When
from empath.testing.memory_dialer import ScriptedDialer
from empath.testing.relay import MemoryRelay

CONTENT = b"Subject: kept\r\n\r\nHello.\r\n"
ALL = {"content": {"keep": "all", "days": 7}}
FAILED = {"content": {"keep": "failed"}}


@pytest.fixture
def relay() -> MemoryRelay:
    dialer = ScriptedDialer()
    dialer.host("reject.test").outcome = Failed(Reply.heard(550, "5.2.1 disabled"))
    return MemoryRelay(dialer=dialer)


async def kept_of(relay: MemoryRelay, policy: dict[str, Any] | None, *to: str) -> tuple[bytes, int] | None:
    """What is kept of a message of tenant `crm`, under its policy; all else must be gone."""
    if policy is not None:
        relay.control.tenants["crm"] = policy
    message_id = await relay.submit(None, list(to), CONTENT, additions=Additions(tenant="crm"))
    await relay.run()
    assert set(relay.states(message_id).values()) <= {State.SENT, State.FAILED}
    assert relay.spool.objects == {}
    assert set(relay.spool.kept) <= {spool_key_of(message_id)}
    return relay.spool.kept.get(spool_key_of(message_id))


@pytest.mark.parametrize(
    ("policy", "to", "kept"),
    [
        (None, ["bob@b.test"], None),
        (None, ["bob@reject.test"], None),
        (ALL, ["bob@b.test"], (CONTENT, 7)),
        (ALL, ["bob@b.test", "eve@c.test"], (CONTENT, 7)),
        (FAILED, ["bob@b.test"], None),
        (FAILED, ["bob@b.test", "eve@c.test"], None),
        (FAILED, ["bob@reject.test"], (CONTENT, 30)),
        (FAILED, ["eve@c.test", "bob@reject.test"], (CONTENT, 30)),
    ],
)
async def test_content_is_kept_as_the_tenants_policy_says(
    relay: MemoryRelay, policy: dict[str, Any] | None, to: list[str], kept: tuple[bytes, int] | None
) -> None:
    assert await kept_of(relay, policy, *to) == kept


@pytest.mark.parametrize("to", [["bob@reject.test"], ["bob@reject.test", "eve@c.test"]])
@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("call", ["spool.keep", "spool.delete", "ledger.settle", "ledger.deliveries"])
async def test_it_is_kept_whatever_fails_in_between(
    relay: MemoryRelay, call: str, when: When, to: list[str]
) -> None:
    relay.faults.fail(call, when=when, times=2)
    assert await kept_of(relay, FAILED, *to) == (CONTENT, 30)
