"""Settings of the ingress: what cannot work, or would relay for the world, is refused by name."""

import re
from typing import Any

import pytest

from infra.settings import Settings, SettingsError
from tests.infra.conftest import EXISTING_VPC, TLS_SECRET


def test_by_default_the_ingress_is_a_service_for_its_own_vpc() -> None:
    settings = Settings.from_context({})
    assert settings.ingress == "service"
    assert settings.ingress_scheme == "internal"
    assert settings.relays_for == settings.clients == settings.vpc_cidrs == ["10.25.0.0/16"]


def test_on_the_local_stack_it_is_a_process() -> None:
    assert Settings.from_context({"profile": "local"}).ingress == "none"


def test_who_may_connect_follows_who_may_relay_unless_it_is_said() -> None:
    assert Settings(relay_networks="10.0.0.0/8, 192.168.1.0/24").clients == ["10.0.0.0/8", "192.168.1.0/24"]
    settings = Settings(relay_networks="10.0.0.0/8", client_networks="0.0.0.0/0")
    assert settings.clients == ["0.0.0.0/0"]
    assert settings.relays_for == ["10.0.0.0/8"]


def test_nobody_may_relay_by_address_where_the_list_is_empty() -> None:
    settings = Settings.from_context({"relay_networks": "", "client_networks": "0.0.0.0/0"})
    assert settings.relays_for == []


def test_tasks_have_public_addresses_only_where_there_is_no_private_way_out() -> None:
    assert not Settings().tasks_have_public_addresses
    assert Settings(nat_gateways=0).tasks_have_public_addresses
    assert not Settings(**EXISTING_VPC).tasks_have_public_addresses
    public = {**EXISTING_VPC, "vpc_public_subnets": EXISTING_VPC["vpc_private_subnets"]}
    del public["vpc_private_subnets"]
    assert Settings(**public).tasks_have_public_addresses


def test_numbers_from_the_command_line_are_text() -> None:
    settings = Settings.from_context({"ingress_cpu": "1024", "ingress_memory": "2048", "nat_gateways": "1"})
    assert (settings.ingress_cpu, settings.ingress_memory, settings.nat_gateways) == (1024, 2048, 1)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"ingress": "yes"}, "setting 'ingress'.*'service' or 'none'"),
        ({"ingress_scheme": "public"}, "setting 'ingress_scheme'"),
        ({"ingress_cpu": "300"}, "setting 'ingress_cpu'.*256, 512"),
        (
            {"ingress_memory": "4096"},
            "ingress_memory must be one of 512, 1024, 2048 MiB with ingress_cpu 256",
        ),
        ({"ingress_min_tasks": "0"}, "setting 'ingress_min_tasks'"),
        ({"ingress_min_tasks": 5, "ingress_max_tasks": 4}, "ingress_max_tasks must not be below"),
        ({"client_networks": "10.0.0.1/8"}, "setting 'client_networks'.*10.0.0.1/8 has host bits set"),
        ({"relay_networks": "office"}, "setting 'relay_networks'.*IPv4 networks such as.*'office'"),
        ({"relay_networks": "2001:db8::/32"}, "setting 'relay_networks'.*IPv4 networks"),
        ({"relay_networks": "0.0.0.0/0"}, "setting 'relay_networks'.*open relay"),
        ({"relay_networks": "10.0.0.0/8,64.0.0.0/7"}, "64.0.0.0/7 would make an open relay"),
        ({"relay_networks": ""}, "client_networks must say who may connect, because relay_networks"),
        ({"ingress_scheme": "internet-facing"}, "client_networks must say who may connect to an internet"),
        ({"relay_domains": "example.com, -x"}, "setting 'relay_domains'.*'-x'"),
        ({"relay_domains": "*.example.com"}, r"setting 'relay_domains'.*\.example\.com for all below"),
        ({"tls_secret": "mail/tls"}, "setting 'tls_secret'"),
        ({"tls_secret": TLS_SECRET.removesuffix("-AbCdEf")}, "setting 'tls_secret'"),
        ({"nat_gateways": "3"}, "setting 'nat_gateways'"),
        ({"vpc_cidr": "10.0.0.0/8"}, "vpc_cidr of a new VPC must be one network between /16 and /24"),
        ({"vpc_cidr": "10.1.0.0/16,10.2.0.0/16"}, "vpc_cidr of a new VPC must be one network"),
        ({"vpc_id": "vpc-1"}, "setting 'vpc_id'"),
        (
            {"vpc_zones": "eu-central-1a,eu-central-1b"},
            "vpc_zones is for a VPC that exists; vpc_id must name",
        ),
        ({"vpc_private_subnets": "subnet-0123456789abcdef0"}, "vpc_private_subnets is for a VPC that exists"),
    ],
)
def test_an_error_names_the_setting(context: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_context(context)
    assert re.search(message, str(error.value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vpc_cidr": None}, "vpc_cidr must name the networks of vpc-0123456789abcdef0"),
        ({"vpc_zones": None}, "vpc_zones must name the availability zones"),
        ({"vpc_zones": "eu-central-1a"}, "setting 'vpc_zones'.*two different"),
        ({"vpc_zones": "eu-central-1a,eu-central-1a"}, "setting 'vpc_zones'.*two different"),
        ({"vpc_zones": "a,b"}, "setting 'vpc_zones'.*such as eu-central-1a, not 'a'"),
        ({"vpc_private_subnets": None}, "vpc_private_subnets must name one for each of the 2 vpc_zones"),
        ({"vpc_private_subnets": "subnet-0123456789abcdef0"}, "one for each of the 2 vpc_zones"),
        ({"vpc_private_subnets": "private"}, "setting 'vpc_private_subnets'.*such as subnet-"),
        ({"vpc_route_tables": "rtb-0123456789abcdef0"}, "vpc_route_tables must name one for each"),
        ({"nat_gateways": "1"}, "nat_gateways is for a new VPC"),
        (
            {"ingress_scheme": "internet-facing", "client_networks": "0.0.0.0/0"},
            "vpc_public_subnets must name one for each",
        ),
    ],
)
def test_an_existing_vpc_has_to_be_described_whole(change: dict[str, Any], message: str) -> None:
    context = {key: value for key, value in {**EXISTING_VPC, **change}.items() if value is not None}
    with pytest.raises(SettingsError) as error:
        Settings.from_context(context)
    assert re.search(message, str(error.value))


def test_what_is_said_of_an_ingress_that_is_left_out_does_not_matter() -> None:
    assert Settings.from_context({"ingress": "none", "ingress_scheme": "internet-facing"}).ingress == "none"
