"""What the local stack can be told, and what it says to nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest

from empath.local.errors import LocalStackError
from empath.local.options import LocalOptions


def test_flags_count_before_the_environment_and_that_before_defaults() -> None:
    environ = {"EMPATH_SMTP_PORT": "3000", "EMPATH_DNS_PORT": "3001", "EMPATH_STATE_DIR": "/elsewhere"}
    options = LocalOptions.from_environment(environ, smtp_port=4000, inbox_port=None)
    assert (options.smtp_port, options.dns_port, options.inbox_port) == (4000, 3001, 2526)
    assert options.state_dir == Path("/elsewhere")


def test_empty_variables_are_as_good_as_none() -> None:
    environ = {"EMPATH_SMTP_PORT": "", "EMPATH_NAMESERVERS": "", "EMPATH_MX_PORT": "", "AWS_ENDPOINT_URL": ""}
    environ["EMPATH_TLS_CLIENT_CA"] = environ["EMPATH_SETTINGS"] = ""
    assert LocalOptions.from_environment(environ) == LocalOptions()


def test_ports_that_nobody_asked_for_are_left_to_the_start() -> None:
    options = LocalOptions.from_environment({"EMPATH_SUBMISSION_PORT": "3000"}, health_port=3001)
    assert (options.submission_port, options.submissions_port, options.health_port) == (3000, None, 3001)


def test_an_internet_of_ones_own_is_named_by_the_environment() -> None:
    options = LocalOptions.from_environment(
        {
            "EMPATH_NAMESERVERS": "127.0.0.1:5300,[::1]:53",
            "EMPATH_MX_PORT": "2600",
            "EMPATH_INTERNET_ADDRESS": "172.17.0.1",
        }
    )
    assert options.nameservers == "127.0.0.1:5300,[::1]:53"
    assert (options.mx_port, options.internet_address) == (2600, "172.17.0.1")


def test_settings_of_the_deployment_go_to_it_as_they_are() -> None:
    given = {"EMPATH_SETTINGS": " deliver_timeout=120  own_addresses=192.0.2.1,192.0.2.2 "}
    assert LocalOptions.from_environment(given).settings == {
        "deliver_timeout": "120",
        "own_addresses": "192.0.2.1,192.0.2.2",
    }


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"EMPATH_SMTP_PORT": "abc"}, "EMPATH_SMTP_PORT is 'abc'"),
        ({"EMPATH_AWS_PORT": "0"}, "EMPATH_AWS_PORT is '0'"),
        ({"EMPATH_INBOX_PORT": "70000"}, "port number from 1 to 65535"),
        ({"EMPATH_MX_PORT": "-1"}, "EMPATH_MX_PORT is '-1'"),
        ({"EMPATH_DNS_PORT": "2525"}, "EMPATH_DNS_PORT and EMPATH_SMTP_PORT are both 2525"),
        ({"EMPATH_NAMESERVERS": "dns.example.com"}, "'dns.example.com', which is no name server"),
        ({"EMPATH_SUBMISSIONS_PORT": "0"}, "EMPATH_SUBMISSIONS_PORT is '0'"),
        ({"EMPATH_HEALTH_PORT": "4566"}, "EMPATH_HEALTH_PORT and EMPATH_AWS_PORT are both 4566"),
        ({"EMPATH_INTERNET_ADDRESS": "localhost"}, "EMPATH_INTERNET_ADDRESS is 'localhost'"),
        ({"AWS_ENDPOINT_URL": "somewhere"}, "AWS_ENDPOINT_URL"),
        ({"EMPATH_SETTINGS": "memory=512 tracing"}, "EMPATH_SETTINGS has 'tracing'"),
        ({"EMPATH_SETTINGS": "=512"}, "EMPATH_SETTINGS has '=512'"),
    ],
)
def test_nonsense_is_named_with_what_should_be_there(environ: dict[str, str], words: str) -> None:
    with pytest.raises(LocalStackError, match=words):
        LocalOptions.from_environment(environ)
