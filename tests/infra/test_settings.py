"""Settings are checked before anything is synthesised, and errors name the setting."""

import re

import pytest
from pydantic import ValidationError

from empath.domain.retry import RetryPolicy
from infra.settings import FUNCTIONS, LEASE_GRACE_S, Settings, SettingsError


def test_the_defaults_are_valid() -> None:
    settings = Settings.from_context({})
    assert settings.timeout("deliver") == 780
    assert settings.visibility("deliver") == 840
    assert settings.keeps_data


def test_the_toolkits_own_context_is_left_alone() -> None:
    context = {"@aws-cdk/core:x": True, "aws:cdk:enable-path-metadata": True, "availability-zones:a": []}
    assert Settings.from_context(context) == Settings()


def test_values_from_the_command_line_are_text() -> None:
    settings = Settings.from_context({"deliver_timeout": "120", "point_in_time_recovery": "false"})
    assert settings.deliver_timeout == 120
    assert settings.point_in_time_recovery is False


def test_the_command_line_is_stronger_than_cdk_json() -> None:
    context = {"empath": {"hostname": "a.example.org", "memory": 256}, "hostname": "b.example.org"}
    settings = Settings.from_context(context)
    assert (settings.hostname, settings.memory) == ("b.example.org", 256)


def test_the_local_stack_leaves_the_deployments_choices_aside() -> None:
    settings = Settings.from_context({"empath": {"deliver_timeout": 900}, "profile": "local"})
    assert settings.deliver_timeout == 20
    assert settings.bundling == "local"
    assert not settings.keeps_data


def test_a_killed_workers_jobs_are_back_within_a_minute_on_the_local_stack() -> None:
    settings = Settings.from_context({"profile": "local"})
    assert all(settings.visibility(name) < 60 for name in FUNCTIONS)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"hostnam": "x"}, "unknown setting 'hostnam'.*did you mean 'hostname'"),
        ({"empath": {"colour": "red"}}, "unknown setting 'colour'"),
        ({"empath": "x"}, "'empath' in cdk.json must be an object"),
        ({"architecture": "mips"}, "setting 'architecture'.*'arm64' or 'x86_64', got 'mips'"),
        ({"deliver_timeout": "901"}, "setting 'deliver_timeout'.*900"),
        ({"deliver_timeout": "soon"}, "setting 'deliver_timeout'.*got 'soon'"),
        ({"log_retention_days": 2}, "setting 'log_retention_days'"),
        ({"hostname": "-"}, "setting 'hostname'"),
        ({"hostname": "a..b"}, "setting 'hostname'.*expected a host name"),
        ({"metric_domains": "a.test,B C"}, "setting 'metric_domains'.*not 'b c'"),
        ({"metric_domains": ",".join(f"d{n}.test" for n in range(51))}, "50 domains at most, not 51"),
        ({"nameservers": "127.0.0.1:dns"}, "setting 'nameservers'.*address:port"),
        ({"nameservers": "ns1.example.com"}, "setting 'nameservers'.*IP addresses"),
        ({"own_addresses": "192.0.2.1, mx"}, "setting 'own_addresses'.*IP addresses or networks.*'mx'"),
        ({"dns_cache": "off"}, "setting 'dns_cache'"),
        ({"profile": "moon"}, "setting 'profile'"),
        ({"visibility_margin": LEASE_GRACE_S}, "visibility_margin must be over 14 s"),
    ],
)
def test_an_error_names_the_setting(context: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_context(context)
    assert re.search(message, str(error.value))


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"'memory'.*'resolve_concurrency'"):
        Settings.from_context({"memory": 1, "resolve_concurrency": 1})


@pytest.mark.parametrize(
    "nameservers", ["", "9.9.9.9", "127.0.0.1:5353", "127.0.0.1:5353, 9.9.9.9", "[::1]:53", "::1"]
)
def test_nameservers_are_addresses_with_or_without_port(nameservers: str) -> None:
    assert Settings(nameservers=nameservers).nameservers == nameservers.replace(" ", "")


def test_the_spool_outlives_the_longest_wait_that_a_policy_may_ask_for() -> None:
    longest_wait = 30
    RetryPolicy(expiry=longest_wait * 86_400)
    with pytest.raises(ValidationError):
        RetryPolicy(expiry=longest_wait * 86_400 + 1)
    with pytest.raises(SettingsError, match="spool_expiry_days"):
        Settings.from_context({"spool_expiry_days": longest_wait + 1})
    assert Settings().spool_expiry_days > longest_wait
