"""Route `ses`: mail by the SESv2 API (SendEmail with raw content), with the role of the function.

SES takes the message as a whole, so it is in memory here, and again in base64 and JSON; large ones go one
after the other. Its words are for a whole call: every recipient of one gets the same outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import idna
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from empath.aws.errors import code_of, http_status_of
from empath.domain.errors import ConfigError, TransientRefusal
from empath.domain.outcome import Deferred, Failed, RecipientOutcome, Sent
from empath.domain.policy import DomainPolicy
from empath.domain.reason import Reason
from empath.domain.reply import Reply
from empath.domain.route import SesRoute
from empath.domain.tls import VERIFIED, TlsSession
from empath.pipeline.secret_memory import unusable
from empath.ports import Handover, Transaction

MAX_SIZE = 41_943_040
"""Octets of a message: SES's quota for its v2 API is 40 MB, and what is larger is not sent to hear so."""

MAX_RECIPIENTS = 50
"""Of one call ("50 recipients per message": To, Cc and Bcc together)."""

LARGE = 4_000_000
"""Octets from which on a message waits until no other large one is in memory."""

MENDABLE = {
    "AccessDeniedException": "its role needs ses:SendEmail",
    "AccessDenied": "its role needs ses:SendEmail",
    "AccountSuspendedException": "SES suspended the account",
    "SendingPausedException": "sending is paused for the account or the configuration set",
    "NotFoundException": "there is no such configuration set",
    "MailFromDomainNotVerifiedException": "the MAIL FROM domain is not verified",
    "UnrecognizedClientException": "its credentials are not valid",
    "ExpiredTokenException": "its credentials ran out",
}
"""By error code: what is no fault of the mail, and somebody can mend."""

TOO_MUCH = frozenset(
    {"TooManyRequestsException", "LimitExceededException", "ThrottlingException", "Throttling"}
)

REJECTED = frozenset({"MessageRejected", "BadRequestException", "ValidationException"})

NEEDS_SMTPUTF8 = Failed(
    Reply.of(553, "5.6.7", "SES does not take internationalised addresses"), Reason.NEEDS_SMTPUTF8
)

NO_TIME = Deferred(Reply.of(451, "4.4.2", "No time was left to hand the message to SES"), Reason.TIMEOUT)

ClientSource = Callable[[str | None], Awaitable[Any]]
"""The sesv2 client of a region (None: the function's), which must not send a call twice by itself."""


@dataclass(frozen=True, slots=True)
class ToSes:
    clients: ClientSource
    _large: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, destination: str, policy: DomainPolicy) -> SesHop:
        if not isinstance(policy.route, SesRoute):
            raise TypeError(f"not the settings of SES: {policy.route!r}")
        return SesHop(policy.route, self.clients, self._large)


@dataclass(frozen=True, slots=True)
class SesHop:
    settings: SesRoute
    clients: ClientSource
    large: asyncio.Lock

    @property
    def site(self) -> str:
        return f"ses:{self.settings.region}" if self.settings.region else "ses"

    async def deliver(self, transaction: Transaction, *, time_left: Callable[[], float]) -> Handover:
        outcomes, sayable = _refused_here(transaction)
        if not sayable:
            return Handover(outcomes, self.site)
        tls: str | None = None
        ambiguous = False
        try:
            async with self.large if transaction.size >= LARGE else nullcontext():
                client = await self._client()
                tls = _tls_of(client)
                async with asyncio.timeout(time_left()):
                    content = await _whole(transaction)
                for batch in _batches(sayable, MAX_RECIPIENTS):
                    if ambiguous or time_left() <= 0:
                        break
                    if transaction.before_commit is not None:
                        await transaction.before_commit()
                    to = [sayable[address] for address in batch]
                    outcome, ambiguous = await self._send(client, transaction, to, content, time_left())
                    outcomes |= dict.fromkeys(batch, outcome)
        except TransientRefusal as refusal:
            return Handover.refused(transaction, refusal)
        except TimeoutError:
            pass  # whoever has no outcome by now is told so below
        return Handover(
            {address: outcomes.get(address, NO_TIME) for address in transaction.recipients},
            self.site,
            tls,
            ambiguous,
        )

    async def _client(self) -> Any:
        try:
            return await self.clients(self.settings.region)
        except ConfigError as error:
            raise unusable(f"SES cannot be called: {error}") from error

    async def _send(
        self, client: Any, transaction: Transaction, to: Sequence[str], content: bytes, within: float
    ) -> tuple[RecipientOutcome, bool]:
        """The outcome of one call, and whether it may have been carried out although nobody said so."""
        request: dict[str, Any] = {
            "Destination": {"ToAddresses": to},
            "Content": {"Raw": {"Data": content}},
        }
        if transaction.reverse_path:
            request["FromEmailAddress"] = _in_ascii(transaction.reverse_path)
        # Without it SES goes by the From field: it has no null reverse-path.
        if self.settings.configuration_set is not None:
            request["ConfigurationSetName"] = self.settings.configuration_set
        try:
            async with asyncio.timeout(max(within, 0.0)):
                answer = await client.send_email(**request)
        except ClientError as error:
            return outcome_of(error), http_status_of(error) >= 500
        except (EndpointConnectionError, ConnectTimeoutError):
            text = "Connection to SES failed"
            return Deferred(Reply.of(451, "4.4.1", text), Reason.CONNECTION_FAILED), False
        except TimeoutError:
            return Deferred(Reply.of(451, "4.4.2", "SES did not answer in time"), Reason.TIMEOUT), True
        except (HTTPClientError, aiohttp.ClientError, OSError):
            text = "Connection to SES lost while waiting for its answer"
            return Deferred(Reply.of(451, "4.4.2", text), Reason.CONNECTION_LOST), True
        except BotoCoreError as error:
            # What botocore finds wrong before it sends anything: no credentials, or none that can be had.
            refusal = unusable(f"SES cannot be called: {error}")
            return Deferred(refusal.reply, refusal.reason), False
        return Sent(Reply.heard(250, f"2.0.0 Accepted by SES as {answer['MessageId']}")), False


def outcome_of(error: ClientError) -> RecipientOutcome:
    """Rejected for what it is: failed. Too much, SES's own trouble, and what somebody can mend: deferred."""
    code = code_of(error)
    words = str(error.response.get("Error", {}).get("Message", "")) or code
    if code in MENDABLE:
        refusal = unusable(f"SES refused: {MENDABLE[code]}: {words}")
        return Deferred(refusal.reply, refusal.reason)
    if code in TOO_MUCH or http_status_of(error) == 429:
        return Deferred(Reply.heard(451, f"4.7.28 SES: {code}: {words}"))
    if code in REJECTED:
        return Failed(Reply.heard(554, f"5.6.0 SES: {code}: {words}"))
    return Deferred(Reply.heard(451, f"4.3.0 SES: {code}: {words}"))


def _refused_here(transaction: Transaction) -> tuple[dict[str, RecipientOutcome], dict[str, str]]:
    """Who need not be tried, and everybody else as SES is told of them."""
    everybody: RecipientOutcome | None = None
    if transaction.size > MAX_SIZE:
        text = f"The message has {transaction.size} octets, and SES takes at most {MAX_SIZE}"
        everybody = Failed(Reply.of(552, "5.3.4", text), Reason.TOO_BIG)
    elif _in_ascii(transaction.reverse_path) is None:
        everybody = NEEDS_SMTPUTF8
    if everybody is not None:
        return dict.fromkeys(transaction.recipients, everybody), {}
    said = {address: _in_ascii(address) for address in transaction.recipients}
    return (
        {address: NEEDS_SMTPUTF8 for address, ascii_form in said.items() if ascii_form is None},
        {address: ascii_form for address, ascii_form in said.items() if ascii_form is not None},
    )


def _tls_of(client: Any) -> str | None:
    """What the SDK does: certificates are verified; version and cipher are not told."""
    endpoint = urlsplit(client.meta.endpoint_url)
    if endpoint.scheme != "https":
        return None
    return str(TlsSession("TLS", "-", peer=endpoint.hostname or "", verification=VERIFIED))


def _batches(addresses: Iterable[str], most: int) -> Iterator[list[str]]:
    rest = iter(addresses)
    while batch := list(islice(rest, most)):
        yield batch


async def _whole(transaction: Transaction) -> bytes:
    content = transaction.content()
    try:
        return b"".join([chunk async for chunk in content])
    finally:
        if isinstance(content, AsyncGenerator):
            await content.aclose()


def _in_ascii(address: str) -> str | None:
    """The address with its domain in A-labels; None when it has no form in ASCII, which SES needs."""
    if address.isascii():
        return address
    local_part, _, domain = address.rpartition("@")
    try:
        path = f"{local_part}@{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        return None
    return path if path.isascii() else None
