"""Workers and the ingress are killed at random; nothing that a client heard 250 for is lost."""

from __future__ import annotations

import random
import smtplib
import threading
from collections import Counter

import pytest

from empath.domain.delivery_state import State
from empath.domain.records import DeliveryRecord
from tests.e2e.deployment import Deployment, eventually, kill, submit

pytestmark = pytest.mark.e2e

MESSAGES = 200
SENDERS = 4
KILLS_EVERY = (0.3, 1.0)
WORKER = r"_worker\.py"
INGRESS = r"functions\.ingress"
HEALS_WITHIN = 240.0


def _send_some(deployment: Deployment, sender: int, accepted: list[str]) -> None:
    """As a client does: on any error begin anew, and count on nothing but a 250."""
    host, _, port = deployment.running_stack.smtp.rpartition(":")
    for number in range(MESSAGES // SENDERS):
        content = f"Subject: kill {sender}-{number}\r\n\r\nHello.\r\n".encode()
        while True:
            try:
                with smtplib.SMTP(host, int(port), timeout=20) as client:
                    accepted.append(submit(client, [f"u{number}@killed.test"], content))
                break
            except (OSError, smtplib.SMTPException, AssertionError):
                threading.Event().wait(0.2)


def test_200_messages_survive_kills_of_workers_and_ingress(deployment: Deployment) -> None:
    chance = random.Random(20)
    accepted: list[str] = []
    senders = [
        threading.Thread(target=_send_some, args=(deployment, number, accepted)) for number in range(SENDERS)
    ]
    kills: Counter[str] = Counter()
    for thread in senders:
        thread.start()
    while any(thread.is_alive() for thread in senders) or kills.total() < 10:
        threading.Event().wait(chance.uniform(*KILLS_EVERY))
        pattern = INGRESS if chance.random() < 0.3 else WORKER
        victims = deployment.processes(pattern)
        if victims:
            kill(chance.choice(victims))
            kills[pattern] += 1
    deployment.until_listening()
    assert len(accepted) == len(set(accepted)) == MESSAGES
    assert kills[WORKER] >= 3
    assert kills[INGRESS] >= 1

    def all_sent() -> dict[str, DeliveryRecord] | None:
        found = {}
        for message_id in accepted:
            records = list(deployment.deliveries(message_id).values())
            if not records or records[0].status is not State.SENT:
                return None
            found[message_id] = records[0]
        return found

    records = eventually(all_sent, within=HEALS_WITHIN, what="the delivery of every accepted message")
    arrived = deployment.inbox("killed.test")
    for message_id, record in records.items():
        copies = sum(message_id.encode() in content for content in arrived)
        ambiguous = sum(attempt.ambiguous for attempt in record.attempts)
        assert 1 <= copies <= 1 + ambiguous, (message_id, copies, record.attempts)
