"""Users hand in mail over TLS, with what the state directory gives them; the ingress tells of its health."""

from __future__ import annotations

import json
import smtplib
import ssl
import urllib.request

import pytest

from empath.local.certificate import LocalCertificate
from empath.local.user import NAME, read_password
from tests.e2e.deployment import Deployment, submit

pytestmark = pytest.mark.e2e


def trusting(deployment: Deployment) -> ssl.SSLContext:
    """A client that knows the stack's certificate and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(LocalCertificate.of(deployment.state_dir).certificate)
    return context


def connect(deployment: Deployment, port: str) -> smtplib.SMTP:
    stack = deployment.running_stack
    if port == "submissions":
        host, _, number = stack.submissions.rpartition(":")
        return smtplib.SMTP_SSL(host, int(number), timeout=60, context=trusting(deployment))
    host, _, number = (stack.submission if port == "submission" else stack.smtp).rpartition(":")
    client = smtplib.SMTP(host, int(number), timeout=60)
    client.starttls(context=trusting(deployment))
    return client


@pytest.mark.parametrize("port", ["submission", "submissions", "relay"])
def test_mail_of_a_user_arrives_and_its_trace_says_how_it_came(deployment: Deployment, port: str) -> None:
    content = f"From: ann@sender.test\r\nSubject: {port}\r\n\r\nhello over {port}\r\n".encode()
    with connect(deployment, port) as client:
        client.login(NAME, str(read_password(deployment.state_dir)))
        submit(client, [f"bob@{port}.test"], content)
    arrived = deployment.arrived(f"{port}.test", f"hello over {port}")
    assert b"with ESMTPSA id" in arrived


@pytest.mark.parametrize("port", ["submission", "submissions"])
def test_nobody_submits_without_the_password(deployment: Deployment, port: str) -> None:
    with connect(deployment, port) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(NAME, "a guess")
        client.ehlo()
        assert client.mail("ann@sender.test")[0] == 530


def test_the_ingress_says_that_it_is_ready(deployment: Deployment) -> None:
    url = f"http://{deployment.running_stack.health}/health/ready"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert json.load(answer)["ok"] is True
