"""Client certificates: who is let in, and which one name a certificate stands for."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from empath.domain.errors import ConfigError
from empath.ingress import tls
from empath.ingress.tls import FixedCertificate
from empath.testing.certificates import FOR_SERVERS, Authority, client_context, self_signed, server_context
from tests.unit.ingress.encrypted import identity_of, serving

OURS = Authority("Our Authority")
OTHERS = Authority("Our Authority")


def trusting(authority: Authority = OURS) -> FixedCertificate:
    context = server_context("mx.example")
    tls.trust_clients_of(context, authority.certificate)
    return FixedCertificate(context)


async def seen(
    common_names: Sequence[str] = (), *, dns: Sequence[str] = (), emails: Sequence[str] = ()
) -> str:
    client = client_context(certificate=OURS.issue(common_names, dns=dns, emails=emails))
    async with serving(trusting()) as (port, _):
        return await identity_of(port, client)


async def test_the_mailbox_counts_before_the_host_and_that_before_the_common_name() -> None:
    assert await seen(["C"], dns=["Printer.example"], emails=["Ann@Shop.example"]) == "ann@shop.example"
    assert await seen(["C"], dns=["Printer.example"]) == "printer.example"
    assert await seen(["Scanner-7"]) == "scanner-7"


async def test_an_address_among_the_alternatives_names_nobody() -> None:
    assert await seen(["Scanner-7"], dns=["192.0.2.1"]) == "scanner-7"


@pytest.mark.parametrize(
    "names",
    [
        {"emails": ["a@shop.example", "b@shop.example"], "dns": ["c.example"]},
        {"dns": ["a.example", "b.example"], "common_names": ["c"]},
        {"common_names": ["a", "b"]},
        {},
    ],
    ids=["two mailboxes", "two hosts", "two common names", "no name"],
)
async def test_a_certificate_that_could_mean_two_users_means_none(names: dict[str, list[str]]) -> None:
    assert await seen(**names) == "-"


@pytest.mark.parametrize(
    "names",
    [
        {"dns": ["*.shop.example"], "common_names": ["ann"]},
        {"common_names": ["Ann Example"]},
        {"common_names": ["ann\0root"]},
        {"common_names": ["\N{KELVIN SIGN}ate"]},  # its lower case is an ordinary `k`
        {"common_names": ["ann\r\n"]},
    ],
    ids=["wildcard", "space", "NUL", "another alphabet", "line"],
)
async def test_a_name_that_is_no_users_name_is_none(names: dict[str, list[str]]) -> None:
    assert await seen(**names) == "-"


async def test_the_same_name_twice_is_one_name() -> None:
    assert await seen(dns=["a.example", "A.Example"]) == "a.example"


async def test_a_client_without_a_certificate_is_served_and_has_no_identity() -> None:
    async with serving(trusting()) as (port, _):
        assert await identity_of(port, client_context()) == "-"


async def test_a_certificate_that_nobody_asked_for_is_no_identity() -> None:
    certificate = OURS.issue(["ann"])
    async with serving(FixedCertificate(server_context("mx.example"))) as (port, failures):
        assert await identity_of(port, client_context(certificate=certificate)) == "-"
        assert failures.empty()


async def test_a_certificate_that_does_not_verify_fails_the_handshake() -> None:
    now = datetime.now(UTC)
    past = (now - timedelta(days=9), now - timedelta(days=1))
    ahead = (now + timedelta(days=1), now + timedelta(days=9))
    wrong = [
        (OTHERS.issue(["ann"]), "certificate signature failure"),
        (self_signed("ann"), "self-signed certificate"),
        (OURS.issue(["ann"], validity=past), "certificate has expired"),
        (OURS.issue(["ann"], validity=ahead), "certificate is not yet valid"),
        (OURS.issue(["ann"], purpose=FOR_SERVERS), "certificate purpose"),
    ]
    async with serving(trusting()) as (port, failures):
        for certificate, why in wrong:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                client = client_context(certificate=certificate)
                client.minimum_version = client.maximum_version = version
                assert await identity_of(port, client) == ""
                assert why in await failures.get()


def test_authorities_that_are_none_are_refused() -> None:
    block = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(ConfigError):
        tls.trust_clients_of(server_context(), block)
