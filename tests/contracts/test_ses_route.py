"""Route `ses`: what SES is told, what its errors mean; and moto's word that the request is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
)

from empath.aws.ses_route import MAX_SIZE, ToSes, outcome_of
from empath.aws.session import AwsSession
from empath.domain.outcome import Deferred, Failed, Sent
from empath.domain.policy import read_policy
from empath.domain.reason import Reason
from empath.ports import Handover, Transaction
from tests.contracts.route_worlds import SesWorld, ses_error

CONTENT = b"From: us@us.test\r\nTo: somebody@dest.test\r\nSubject: x\r\n\r\nx\r\n"


async def send(
    world: SesWorld,
    recipients: Sequence[str] = ("ann@dest.test",),
    *,
    reverse_path: str = "us@us.test",
    size: int = len(CONTENT),
) -> Handover:
    async def read() -> AsyncIterator[bytes]:
        yield CONTENT

    hop = await world.route.find("dest.test", world.policy)
    return await hop.deliver(
        Transaction(reverse_path, recipients, read, size, name="id"), time_left=lambda: 10
    )


async def test_fifty_recipients_a_call() -> None:
    world = SesWorld()
    recipients = [f"u{number}@dest.test" for number in range(100)]
    done = await send(world, recipients)
    assert [len(request["Destination"]["ToAddresses"]) for request in world.client.requests] == [50, 50]
    assert list(done.outcomes) == recipients


async def test_after_a_lost_answer_the_rest_is_not_tried_and_not_in_doubt_for_having_been() -> None:
    world = SesWorld()
    world.meets("lost")
    done = await send(world, [f"u{number}@dest.test" for number in range(60)])
    assert done.ambiguous
    assert {outcome.reason for outcome in list(done.outcomes.values())[:50]} == {Reason.CONNECTION_LOST}
    assert {outcome.reason for outcome in list(done.outcomes.values())[50:]} == {Reason.TIMEOUT}
    assert len(world.client.requests) == 1


@pytest.mark.parametrize(
    ("error", "reason", "ambiguous"),
    [
        (NoCredentialsError(), Reason.ROUTE_UNUSABLE, False),
        (CredentialRetrievalError(provider="role", error_msg="denied"), Reason.ROUTE_UNUSABLE, False),
        (ParamValidationError(report="x"), Reason.ROUTE_UNUSABLE, False),
        (ConnectTimeoutError(endpoint_url="https://email.test"), Reason.CONNECTION_FAILED, False),
        (ConnectionClosedError(endpoint_url="https://email.test"), Reason.CONNECTION_LOST, True),
        (aiohttp.ServerDisconnectedError(), Reason.CONNECTION_LOST, True),
        (ConnectionResetError(), Reason.CONNECTION_LOST, True),
    ],
)
async def test_only_what_may_have_been_sent_is_in_doubt(
    error: Exception, reason: Reason, ambiguous: bool
) -> None:
    world = SesWorld()
    world.client.fates.append(error)
    done = await send(world)
    outcome = done.outcomes["ann@dest.test"]
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, done.ambiguous) == (reason, ambiguous)


async def test_a_null_reverse_path_is_left_to_the_from_field() -> None:
    world = SesWorld()
    await send(world, reverse_path="")
    assert "FromEmailAddress" not in world.client.requests[0]


async def test_domains_are_said_in_a_labels_and_other_local_parts_not_at_all() -> None:
    world = SesWorld()
    done = await send(world, ["ann@bücher.test", "jörg@dest.test"], reverse_path="us@grün.test")
    [request] = world.client.requests
    assert request["Destination"]["ToAddresses"] == ["ann@xn--bcher-kva.test"]
    assert request["FromEmailAddress"] == "us@xn--grn-ioa.test"
    assert isinstance(done.outcomes["ann@bücher.test"], Sent)
    assert done.outcomes["jörg@dest.test"].reason is Reason.NEEDS_SMTPUTF8


async def test_what_is_too_large_is_not_sent_to_be_refused() -> None:
    world = SesWorld()
    done = await send(world, size=MAX_SIZE + 1)
    assert done.outcomes["ann@dest.test"].reason is Reason.TOO_BIG
    assert world.client.requests == []


async def test_a_configuration_set_is_named() -> None:
    world = SesWorld()
    world.policy = read_policy({"route": {"kind": "ses", "configuration_set": "relay"}})
    await send(world)
    assert world.client.requests[0]["ConfigurationSetName"] == "relay"


@pytest.mark.parametrize(
    ("code", "status", "kind", "reason"),
    [
        ("TooManyRequestsException", 429, Deferred, Reason.NEXT_HOP_REPLY),
        ("LimitExceededException", 400, Deferred, Reason.NEXT_HOP_REPLY),
        ("SendingPausedException", 400, Deferred, Reason.ROUTE_UNUSABLE),
        ("AccountSuspendedException", 400, Deferred, Reason.ROUTE_UNUSABLE),
        ("AccessDeniedException", 403, Deferred, Reason.ROUTE_UNUSABLE),
        ("NotFoundException", 404, Deferred, Reason.ROUTE_UNUSABLE),
        ("MailFromDomainNotVerifiedException", 400, Deferred, Reason.ROUTE_UNUSABLE),
        ("InternalServiceErrorException", 500, Deferred, Reason.NEXT_HOP_REPLY),
        ("MessageRejected", 400, Failed, Reason.NEXT_HOP_REPLY),
        ("BadRequestException", 400, Failed, Reason.NEXT_HOP_REPLY),
        ("SomethingNew", 400, Deferred, Reason.NEXT_HOP_REPLY),
    ],
)
def test_what_an_error_means(code: str, status: int, kind: type, reason: Reason) -> None:
    outcome = outcome_of(ses_error(code, status, "words\x1b"))
    assert (type(outcome), outcome.reason) == (kind, reason)
    assert "\x1b" not in outcome.reply.text


@pytest.mark.asyncio(loop_scope="session")
async def test_the_service_takes_the_request_and_rejects_whom_it_does_not_know(aws: AwsSession) -> None:
    client = await aws.sesv2()
    await client.create_email_identity(EmailIdentity="us@us.test")
    world = SesWorld()
    world.route = ToSes(aws.sesv2)
    done = await send(world)
    assert isinstance(done.outcomes["ann@dest.test"], Sent)
    done = await send(world, reverse_path="stranger@us.test")
    assert isinstance(done.outcomes["ann@dest.test"], Failed)
