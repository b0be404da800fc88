"""Route `webhook`: what is posted and signed, where it may go, and what an answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from empath.domain.outcome import Deferred, Failed, Sent
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.suppression import names_no_mailbox
from empath.net.webhook import outcome_of, seconds_of
from empath.net.webhook_request import MAX_KEPT, key_of
from empath.ports import Handover, Transaction
from empath.testing.webhook_sink import WebhookSink
from empath.testing.zones import Node
from tests.contracts.route_worlds import KEY, WebhookWorld

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ANN = "ann@dest.test"


@pytest_asyncio.fixture
async def world() -> AsyncIterator[WebhookWorld]:
    async with WebhookSink() as sink:
        yield WebhookWorld(sink)


async def post(
    world: WebhookWorld, policy: DomainPolicy | None = None, content: bytes = b"Subject: x\r\n\r\nx\r\n"
) -> Handover:
    async def read() -> AsyncIterator[bytes]:
        yield content

    hop = await world.route.find("dest.test", policy or world.policy)
    mail = Transaction(
        "us@us.test", [ANN], read, len(content), envid="QQ314159", name="01J/delivery#dest.test"
    )
    return await hop.deliver(mail, time_left=lambda: 10)


@pytest.mark.parametrize("size", [100, MAX_KEPT * 2])
async def test_the_signature_is_standard_webhooks_over_what_was_received(
    world: WebhookWorld, size: int
) -> None:
    await post(world, content=b"x" * size)
    [seen] = world.sink.posted
    headers = seen.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + seen.body
    expected = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-timestamp"] == str(int(world.clock.now().timestamp()))
    assert seen.content == b"x" * size


async def test_the_key_for_idempotency_is_the_same_at_every_attempt(world: WebhookWorld) -> None:
    world.meets("lost")
    await post(world)
    await post(world)
    assert {seen.headers["Idempotency-Key"] for seen in world.sink.posted} == {"01J/delivery#dest.test"}
    assert len(world.sink.posted) == 2


async def test_the_document_has_the_envelope(world: WebhookWorld) -> None:
    await post(world)
    document = world.sink.posted[0].document
    del document["content"]
    assert document == {
        "id": "01J/delivery#dest.test",
        "reverse_path": "us@us.test",
        "recipients": [ANN],
        "size": 17,
        "eight_bit": False,
        "smtputf8": False,
        "envid": "QQ314159",
    }


async def test_an_address_inside_is_not_posted_to_unless_policy_allows_it(world: WebhookWorld) -> None:
    done = await post(world, world.with_url(f"https://hook.test:{world.sink.port}/", allow=[]))
    assert done.outcomes[ANN].reason is Reason.ROUTE_UNUSABLE
    assert world.sink.posted == []


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "[::1]"])
async def test_an_address_in_the_url_is_judged_like_one_behind_a_name(world: WebhookWorld, host: str) -> None:
    done = await post(world, world.with_url(f"https://{host}:{world.sink.port}/", allow=[]))
    assert done.outcomes[ANN].reason is Reason.ROUTE_UNUSABLE
    assert world.sink.posted == []


async def test_of_a_name_with_addresses_inside_and_outside_only_the_allowed_are_used(
    world: WebhookWorld,
) -> None:
    world.resolver.zones = {"hook.test": Node(a=["10.0.0.1", "127.0.0.1"])}
    done = await post(world)
    assert isinstance(done.outcomes[ANN], Sent)


async def test_a_redirect_is_not_followed_and_costs_time(world: WebhookWorld) -> None:
    world.sink.script.append((307, {"Location": f"https://hook.test:{world.sink.port}/elsewhere"}, ""))
    done = await post(world)
    assert done.outcomes[ANN].reason is Reason.ROUTE_UNUSABLE
    assert [seen.path for seen in world.sink.posted] == ["/mail"]


async def test_a_receiver_that_is_not_trusted_is_told_nothing(world: WebhookWorld) -> None:
    async with WebhookSink() as other:
        done = await post(world, world.with_url(f"https://hook.test:{other.port}/"))
        assert done.outcomes[ANN].reason is Reason.TLS_FAILED
        assert not done.ambiguous
        assert other.posted == []


async def test_retry_after_is_in_the_reply(world: WebhookWorld) -> None:
    world.sink.script.append((429, {"Retry-After": "300"}, "slow down"))
    done = await post(world)
    assert "try again in 300 seconds" in done.outcomes[ANN].reply.text


async def test_an_answer_is_strangers_words(world: WebhookWorld) -> None:
    world.sink.script.append((400, {}, "no\r\n\x1b[31m" + "x" * 100_000))
    reply = (await post(world)).outcomes[ANN].reply
    assert "\x1b" not in reply.text
    assert len(reply.text) < 2000


async def test_a_key_that_is_missing_costs_time(world: WebhookWorld) -> None:
    world.secrets.values.clear()
    done = await post(world)
    assert done.outcomes[ANN].reason is Reason.ROUTE_UNUSABLE


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Sent) for status in (200, 201, 202, 204)),
        *(
            (status, Deferred)
            for status in (301, 302, 303, 307, 308, 401, 408, 425, 429, 500, 502, 503, 504, 599)
        ),
        *((status, Failed) for status in (400, 403, 404, 409, 410, 413, 415, 422)),
    ],
)
def test_what_a_status_means(status: int, kind: type) -> None:
    assert isinstance(outcome_of(status, "words", retry_after=None, now=NOW), kind)


def test_a_refused_signature_is_a_matter_of_settings_and_costs_time() -> None:
    assert outcome_of(401, "Unauthorized", retry_after=None, now=NOW).reason is Reason.ROUTE_UNUSABLE


def test_what_a_web_server_says_puts_no_address_on_the_suppression_list() -> None:
    """One answer stands for all recipients, and is most often about the URL or who posts."""
    failed = outcome_of(404, "Not Found: account does not exist", retry_after=None, now=NOW)
    assert isinstance(failed, Failed)
    assert not names_no_mailbox("bob@hooks.test", failed.reply, failed.reason)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 01 Mar 2026 12:05:00 GMT", 300),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("9" * 50, 999_999_999),
        ("", None),
    ],
)
def test_retry_after_in_all_its_forms(value: str | None, seconds: int | None) -> None:
    assert seconds_of(value, NOW) == seconds


def test_a_key_is_text_or_base64() -> None:
    assert key_of("plain\n") == b"plain"
    assert key_of("whsec_" + base64.b64encode(b"\x00\x01").decode()) == b"\x00\x01"
    for wrong in ("", "  ", "whsec_", "whsec_***"):
        with pytest.raises(ValueError):
            key_of(wrong)
