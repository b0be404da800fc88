"""The registry of routes: every kind that policy knows can be made, and none is loaded before."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from empath.bootstrap.ports import Ports
from empath.bootstrap.routes import route_table
from empath.config.functions import FunctionConfig
from empath.domain.policy import read_policy
from empath.domain.route import RouteKind
from empath.ports import NextHop
from empath.testing.metrics import CountedMetrics

SETTINGS: dict[str, dict[str, object]] = {
    "mx": {},
    "smarthost": {"hosts": [{"host": "192.0.2.1"}], "secret": "login"},
    "lmtp": {"hosts": [{"host": "192.0.2.1"}]},
    "ses": {"region": "eu-west-1"},
    "webhook": {"url": "https://192.0.2.1/", "secret": "key"},
    "sink": {},
}


async def find(kind: str) -> NextHop:
    config = FunctionConfig.from_environment(
        {"EMPATH_HOSTNAME": "relay.test", "EMPATH_NAMESERVERS": "127.0.0.1:1"}
    )
    ports = Ports(config, metrics=CountedMetrics())
    try:
        policy = read_policy({"route": {"kind": kind, **SETTINGS[kind]}})
        return await route_table(ports).find("[192.0.2.1]", policy)
    finally:
        await ports.close()


@pytest.mark.parametrize("kind", get_args(RouteKind))
async def test_every_kind_can_be_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert (await find(kind)).site


def test_the_registry_itself_loads_no_route() -> None:
    code = "import sys, empath.bootstrap.routes; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for needless in ("empath.net.webhook", "empath.aws.ses_route", "aiohttp", "aiosmtplib", "dns"):
        assert needless not in loaded.splitlines()
