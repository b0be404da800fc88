"""Routes in policies: what is refused, by which field, and how kinds go over each other."""

from __future__ import annotations

from typing import Any

import pytest

from empath.domain.errors import InvalidPolicy
from empath.domain.policy import merge_policy, read_policy
from empath.domain.route import LmtpRoute, MxRoute, SinkRoute, SmarthostRoute

SMARTHOST = {"kind": "smarthost", "hosts": [{"host": "Relay.Test."}]}


def test_without_a_route_mail_goes_to_the_exchangers() -> None:
    assert read_policy({}).route == MxRoute()


def test_a_smarthost_listens_where_submission_does() -> None:
    route = read_policy({"route": SMARTHOST}).route
    assert isinstance(route, SmarthostRoute)
    assert (route.hosts[0].host, route.default_port) == ("relay.test", 587)
    implicit = read_policy({"route": {**SMARTHOST, "encryption": "implicit"}}).route
    assert isinstance(implicit, SmarthostRoute)
    assert implicit.default_port == 465


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"route": "mx"}, "route"),
        ({"route": {"kind": "uucp"}}, "route"),
        ({"route": {"kind": "mx", "hosts": []}}, "route.mx.hosts"),
        ({"route": {"kind": "smarthost"}}, "route.smarthost.hosts"),
        ({"route": {"kind": "smarthost", "hosts": []}}, "route.smarthost.hosts"),
        ({"route": {"kind": "smarthost", "hosts": [{"host": "a b"}]}}, "route.smarthost.hosts.0.host"),
        ({"route": {"kind": "smarthost", "hosts": [{"host": ""}]}}, "route.smarthost.hosts.0.host"),
        ({"route": {"kind": "lmtp", "hosts": [{"host": "a", "port": 0}]}}, "route.lmtp.hosts.0.port"),
        ({"route": {**SMARTHOST, "encryption": "none"}}, "route.smarthost.encryption"),
        ({"route": {**SMARTHOST, "secret": "two words"}}, "route.smarthost.secret"),
        ({"route": {**SMARTHOST, "secret": "login"}, "tls": "disabled"}, "route.secret"),
        ({"route": {**SMARTHOST, "hosts": [{"host": "a.test"}] * 11}}, "route.smarthost.hosts"),
        ({"route": {"kind": "ses", "region": "Frankfurt"}}, "route.ses.region"),
        ({"route": {"kind": "webhook", "url": "https://a.test/"}}, "route.webhook.secret"),
        ({"route": {"kind": "sink", "url": "https://a.test/"}}, "route.sink.url"),
        ({"on_ambiguous": "panic"}, "on_ambiguous"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidPolicy, match=rf"{field.replace('.', '[.]')}\b"):
        read_policy(settings)


@pytest.mark.parametrize("host", ["/run/dovecot/lmtp", "unix:/run/dovecot/lmtp", "@lmtp"])
def test_a_unix_socket_is_refused_with_what_to_do_instead(host: str) -> None:
    with pytest.raises(InvalidPolicy, match=r"route\.lmtp\.hosts\.0\.host.*Unix sockets .* inet_listener"):
        read_policy({"route": {"kind": "lmtp", "hosts": [{"host": host}]}})


@pytest.mark.parametrize(
    "url",
    [
        "http://a.test/",
        "https://",
        "https:///path",
        "https://user@a.test/",
        "https://user:password@a.test/",
        "https://a.test/#part",
        "https://a.test:port/",
        "https://a.test:99999/",
        "https://[::1/",
        "https://a b/",
        "https://a.test/a b",
        "https://a.test/\r\nX-Field: b",
        " https://a.test/",
        "ftp://a.test/",
        "a.test",
        "",
    ],
)
def test_a_webhook_is_posted_to_by_https_to_a_host_and_with_no_password_in_the_url(url: str) -> None:
    with pytest.raises(InvalidPolicy, match=r"route[.]webhook[.]url"):
        read_policy({"route": {"kind": "webhook", "url": url, "secret": "key"}})


def test_a_domain_overrides_fields_of_the_same_kind_and_the_whole_of_another() -> None:
    everybody = {"route": {**SMARTHOST, "secret": "login"}}
    same = read_policy(merge_policy(everybody, {"route": {"encryption": "implicit"}})).route
    assert isinstance(same, SmarthostRoute)
    assert (same.secret, same.encryption) == ("login", "implicit")
    assert read_policy(merge_policy(everybody, {"route": {"kind": "mx"}})).route == MxRoute()
    assert read_policy(merge_policy(everybody, {"route": {"kind": "sink"}})).route == SinkRoute(kind="sink")
    other = read_policy(
        merge_policy(everybody, {"route": {"kind": "lmtp", "hosts": [{"host": "a.test"}]}})
    ).route
    assert isinstance(other, LmtpRoute)


def test_settings_without_kinds_are_merged_as_ever() -> None:
    merged = merge_policy({"retry": {"first_delay": 5, "factor": 2}}, {"retry": {"factor": 3}})
    assert merged == {"retry": {"first_delay": 5, "factor": 3}}
