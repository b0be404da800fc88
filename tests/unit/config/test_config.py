"""The environment: validated, and every fault names its variable and what it should hold."""

import ipaddress
from pathlib import Path

import pytest

from empath.config.environment import ConfigError
from empath.config.functions import FunctionConfig
from empath.config.ingress import IngressConfig
from empath.ingress.settings import PortKind, ProcessSettings
from empath.ports import QueueName

INGRESS = {
    "EMPATH_SPOOL_BUCKET": "spool",
    "EMPATH_ACCEPTED_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/accepted",
    "EMPATH_HOSTNAME": "relay.example.com",
}


def test_a_function_reads_what_it_was_given() -> None:
    config = FunctionConfig.from_environment(
        {
            **INGRESS,
            "EMPATH_FUNCTION": "retry",
            "EMPATH_RETRY_QUEUE_URL": "https://x/retry",
            "EMPATH_DEAD_LETTER_QUEUE_URLS": '{"accepted": "https://x/dead"}',
            "EMPATH_NAMESERVERS": "127.0.0.1:53, 10.0.0.2,[2001:db8::1]:5353,2001:db8::2",
            "EMPATH_LOG_LEVEL": "debug",
            "EMPATH_TRACING": "on",
            "UNRELATED": "x",
        }
    )
    assert config.need("spool_bucket") == "spool"
    assert config.queue_urls == {
        QueueName.ACCEPTED: INGRESS["EMPATH_ACCEPTED_QUEUE_URL"],
        QueueName.RETRY: "https://x/retry",
    }
    assert config.dead_letter_queue_urls == {QueueName.ACCEPTED: "https://x/dead"}
    assert config.nameservers == ("127.0.0.1:53", "10.0.0.2", "[2001:db8::1]:5353", "2001:db8::2")
    assert (config.log_level, config.tracing) == ("DEBUG", "on")


def test_an_empty_variable_is_not_set() -> None:
    config = FunctionConfig.from_environment({"EMPATH_NAMESERVERS": "", "EMPATH_SPOOL_BUCKET": " "})
    assert config.nameservers == ()
    assert config.spool_bucket is None


def test_asking_for_what_is_not_set_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="EMPATH_DELIVERIES_TABLE is not set: it should hold the name"):
        FunctionConfig.from_environment({}).need("deliveries_table")


@pytest.mark.parametrize(
    ("variable", "value", "holds"),
    [
        ("EMPATH_TRACING", "yes", "on or off"),
        ("EMPATH_LOG_LEVEL", "loud", "DEBUG, INFO"),
        ("EMPATH_NAMESERVERS", "dns.example.com", "IP addresses"),
        ("EMPATH_NAMESERVERS", "127.0.0.1:0", "IP addresses"),
        ("EMPATH_DNS_CACHE", "off", "shared or memory"),
        ("EMPATH_OWN_ADDRESSES", "192.0.2.1, mx.example", "IP networks"),
        ("EMPATH_HOSTNAME", "my relay", "host name"),
        ("EMPATH_HOSTNAME", "bücher.example", "host name"),
        ("EMPATH_RETRY_QUEUE_URL", "retry", "URL"),
        ("EMPATH_DEAD_LETTER_QUEUE_URLS", "{", "JSON object"),
        ("EMPATH_DEAD_LETTER_QUEUE_URLS", "[1]", "JSON object"),
        ("EMPATH_DEAD_LETTER_QUEUE_URLS", '{"other": "https://x"}', "JSON object"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_should_be(variable: str, value: str, holds: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FunctionConfig.from_environment({variable: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{variable} should hold ")
    assert holds in line
    assert repr(value) in line


def test_the_ingress_has_defaults_for_all_but_its_surroundings() -> None:
    listener = IngressConfig.from_environment(INGRESS).listener()
    assert (listener.host, listener.port, listener.hostname) == ("127.0.0.1", 2525, "relay.example.com")
    assert ipaddress.ip_network("127.0.0.0/8") in listener.networks
    assert listener.max_size == 50 * 1024 * 1024


def test_the_ingress_names_everything_that_is_missing_or_wrong_at_once() -> None:
    environ = {
        "EMPATH_SPOOL_BUCKET": "spool",
        "EMPATH_SMTP_PORT": "smtp",
        "EMPATH_RELAY_NETWORKS": "10.0.0.1/8,nonsense",
        "EMPATH_MAX_MESSAGE_SIZE": "1",
    }
    with pytest.raises(ConfigError) as caught:
        IngressConfig.from_environment(environ)
    lines = str(caught.value).splitlines()
    assert sorted(line.split()[0] for line in lines) == [
        "EMPATH_ACCEPTED_QUEUE_URL",
        "EMPATH_HOSTNAME",
        "EMPATH_MAX_MESSAGE_SIZE",
        "EMPATH_RELAY_NETWORKS",
        "EMPATH_SMTP_PORT",
    ]


def test_relay_networks_replace_the_default() -> None:
    config = IngressConfig.from_environment({**INGRESS, "EMPATH_RELAY_NETWORKS": "10.0.0.0/8, fd00::/8"})
    assert config.relay_networks == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def test_certificate_and_key_are_of_use_together_only_and_named_when_they_are_of_none(tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    for name, missing in (
        ("EMPATH_TLS_CERTIFICATE", "EMPATH_TLS_KEY"),
        ("EMPATH_TLS_KEY", "EMPATH_TLS_CERTIFICATE"),
    ):
        config = IngressConfig.from_environment(INGRESS | {name: str(path)})
        with pytest.raises(ConfigError, match=f"^{missing} is not set"):
            config.listener()


SECRET = {"EMPATH_TLS_SECRET": "relay-certificate"}
PAIR = {"EMPATH_TLS_CERTIFICATE": "both.pem", "EMPATH_TLS_KEY": "both.pem"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"EMPATH_SUBMISSION_PORT": "587"}, "EMPATH_SUBMISSION_PORT needs EMPATH_TLS_SECRET"),
        ({"EMPATH_SUBMISSIONS_PORT": "465"}, "EMPATH_SUBMISSIONS_PORT needs EMPATH_TLS_SECRET"),
        ({"EMPATH_SUBMISSION_PORT": "587", **SECRET}, "EMPATH_SUBMISSION_PORT needs EMPATH_CONTROL_TABLE"),
        ({"EMPATH_USER_MESSAGES_PER_HOUR": "9"}, "EMPATH_USER_MESSAGES_PER_HOUR needs EMPATH_CONTROL_TABLE"),
        ({**SECRET, **PAIR}, "EMPATH_TLS_SECRET and EMPATH_TLS_CERTIFICATE or _KEY are both set"),
        ({"EMPATH_TLS_CLIENT_CA": "ca.pem"}, "EMPATH_TLS_CLIENT_CA is of use with a certificate only"),
        ({"EMPATH_TLS_CLIENT_CA": "ca.pem", **SECRET}, "EMPATH_TLS_CLIENT_CA needs EMPATH_CONTROL_TABLE"),
        ({"EMPATH_SMTP_PORT": "off"}, "EMPATH_SMTP_PORT is off and no other port is set"),
    ],
)
def test_what_does_not_go_together_is_named(given: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        IngressConfig.from_environment(INGRESS | given).listener()


def test_a_port_that_is_off_is_not_listened_on() -> None:
    given = {"EMPATH_SMTP_PORT": "off", "EMPATH_SUBMISSION_PORT": "587", "EMPATH_CONTROL_TABLE": "control"}
    listener = IngressConfig.from_environment(INGRESS | given | SECRET).listener()
    assert dict(listener.ports) == {PortKind.SUBMISSION: 587}


@pytest.mark.parametrize("domains", ["-x.example", "one.example two.example", "[192.0.2.1]", "*"])
def test_a_relay_domain_is_a_domain(domains: str) -> None:
    with pytest.raises(ConfigError, match=r"^EMPATH_RELAY_DOMAINS should hold domains"):
        IngressConfig.from_environment(INGRESS | {"EMPATH_RELAY_DOMAINS": domains})


def test_relay_domains_are_told_apart_by_commas() -> None:
    config = IngressConfig.from_environment(INGRESS | {"EMPATH_RELAY_DOMAINS": "one.example, .two.example"})
    assert config.relay_domains == ("one.example", ".two.example")


def test_the_process_is_told_its_number_its_health_port_and_how_it_ends() -> None:
    given = {
        "EMPATH_PROCESSES": "3",
        "EMPATH_HEALTH_HOST": "0.0.0.0",
        "EMPATH_HEALTH_PORT": "8025",
        "EMPATH_SHUTDOWN_DELAY": "12.5",
        "EMPATH_SHUTDOWN_GRACE": "90",
    }
    config = IngressConfig.from_environment(INGRESS | given)
    assert config.process() == ProcessSettings(3, "0.0.0.0", 8025, 12.5)
    assert config.listener().shutdown_grace == 90
    assert IngressConfig.from_environment(INGRESS).process() == ProcessSettings(1, "127.0.0.1", None, 0)


def test_as_many_processes_as_cpus_are_at_least_one() -> None:
    assert 1 <= IngressConfig.from_environment(INGRESS | {"EMPATH_PROCESSES": "auto"}).processes <= 64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMPATH_PROCESSES", "0"),
        ("EMPATH_PROCESSES", "65"),
        ("EMPATH_PROCESSES", "many"),
        ("EMPATH_HEALTH_PORT", "65536"),
        ("EMPATH_SHUTDOWN_GRACE", "-1"),
        ("EMPATH_SHUTDOWN_DELAY", "nan"),
    ],
)
def test_a_process_setting_that_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} should hold .*; it holds '{value}'$"):
        IngressConfig.from_environment(INGRESS | {name: value})


def test_the_operators_manual_names_every_variable() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "OPERATIONS.md").read_text("utf-8")
    variables = {str(field.validation_alias) for field in IngressConfig.model_fields.values()}
    assert {name for name in variables if f"`{name}`" not in manual} == set()
