"""What the ingress cannot use ends its start: exit code 2, and one line that names the setting and
the reason.

Here the whole way from files, sockets and AWS to that line. Variables that are wrong by themselves are in
tests/unit/ingress/test_process.py, and what else can be wrong with each thing in the tests of its part.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from empath.testing.certificates import self_signed
from tests.scenarios.ingress_process import Ingress, starting
from tests.scenarios.small_aws import SmallAws

FIRST_FREE_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
CONTROL = {"EMPATH_CONTROL_TABLE": "control"}


@pytest.fixture(scope="module")
def aws() -> Iterator[SmallAws]:
    with SmallAws.running() as aws:
        yield aws


@pytest.fixture
def start(tmp_path: Path, aws: SmallAws) -> Iterator[Callable[..., Ingress]]:
    with starting(tmp_path) as start:
        yield lambda *before, **given: start(*before, **aws.environment | given)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths by what is there."""
    folder = tmp_path_factory.mktemp("certificates")
    certificate, key = self_signed("mx.example")
    _, other_key = self_signed("mx.example")
    texts = {"certificate": certificate, "key": key, "other key": other_key}
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return {name: str(folder / name) for name in (*texts, "nothing")}


@pytest.fixture
def taken() -> Iterator[str]:
    """A port where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


def only_line(ingress: Ingress) -> str:
    """What an ingress says that exits with 2."""
    assert ingress.ended() == 2, ingress.errors()
    [line] = ingress.errors().splitlines()
    return line.removeprefix("empath ingress: ")


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("certificate", "other key", "the private key is not the certificate's"),
        ("nothing", "key", "cannot read {nothing}: No such file or directory"),
    ],
)
def test_a_certificate_that_cannot_be_used(
    start: Callable[..., Ingress], files: dict[str, str], certificate: str, key: str, reason: str
) -> None:
    given = {"EMPATH_TLS_CERTIFICATE": files[certificate], "EMPATH_TLS_KEY": files[key]}
    said = only_line(start(**given))
    assert said.startswith(f"EMPATH_TLS_CERTIFICATE and EMPATH_TLS_KEY: {reason.format(**files)}")


@pytest.mark.parametrize(
    ("refusal", "value", "reason"),
    [
        ("AccessDeniedException", "", "cannot be read: this process may not read it"),
        ("", '{"certificate": ', "cannot be used: it begins like JSON and is none"),
    ],
)
def test_a_secret_that_cannot_be_used(
    start: Callable[..., Ingress], aws: SmallAws, refusal: str, value: str, reason: str
) -> None:
    aws.refusals["GetSecretValue"], aws.secrets["relay"] = refusal, value
    said = only_line(start(EMPATH_TLS_SECRET="relay"))
    assert said.startswith(f"EMPATH_TLS_SECRET: the secret 'relay' {reason}")


@pytest.mark.parametrize("setting", ["EMPATH_SUBMISSION_PORT", "EMPATH_SUBMISSIONS_PORT"])
def test_a_port_in_use(
    start: Callable[..., Ingress], files: dict[str, str], taken: str, setting: str
) -> None:
    """The relay port's and the health port's are in test_process.py and test_processes.py."""
    given = {"EMPATH_TLS_CERTIFICATE": files["certificate"], "EMPATH_TLS_KEY": files["key"], setting: taken}
    said = only_line(start(**CONTROL, **given))
    assert said == f"{setting}: cannot listen on 127.0.0.1 port {taken}: the port is in use"


@pytest.mark.skipif(
    not FIRST_FREE_PORT.exists() or int(FIRST_FREE_PORT.read_text()) <= 25,
    reason="any port is anybody's here",
)
def test_a_port_without_the_right_to_it(start: Callable[..., Ingress]) -> None:
    without = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    said = only_line(start(*(without if os.geteuid() == 0 else []), EMPATH_SMTP_PORT="25"))
    assert said == (
        "EMPATH_SMTP_PORT: cannot listen on 127.0.0.1 port 25: "
        "ports below 1024 need a right that this process does not have"
    )


def test_hooks_that_are_not_there(start: Callable[..., Ingress]) -> None:
    said = only_line(start(EMPATH_HOOKS="no_such_module"))
    assert said == (
        "EMPATH_HOOKS: module no_such_module cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
