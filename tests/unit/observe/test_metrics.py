"""Counters leave as one EMF line per flush."""

import asyncio
import json

import pytest

from empath.observe.metrics import EmfMetrics
from empath.testing.clock import ManualClock


def test_a_flush_writes_the_sums_once(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = EmfMetrics("deliver")
    metrics.count("sent")
    metrics.count("sent", 2)
    metrics.count("deferred")
    metrics.flush()
    metrics.flush()
    line = json.loads(capsys.readouterr().out)
    assert (line["sent"], line["deferred"]) == ([3.0], [1.0])
    assert (line["service"], line["function"]) == ("empath", "deliver")
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Empath"
    assert [sorted(names) for names in directive["Dimensions"]] == [["function", "service"]]
    assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]} == {
        "sent": "Count",
        "deferred": "Count",
    }


def test_named_domains_have_counters_of_their_own_and_all_others_one_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = EmfMetrics("deliver", domains=["big.example"])
    for domain in ("big.example", "a.test", "b.test", None):
        metrics.count("sent", domain=domain)
    metrics.flush()
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line.get("domain"), line["sent"]) for line in written] == [
        (None, [4.0]),
        ("big.example", [1.0]),
        ("other", [2.0]),
    ]
    (directive,) = written[1]["_aws"]["CloudWatchMetrics"]
    assert [sorted(names) for names in directive["Dimensions"]] == [["domain", "function", "service"]]


def test_without_named_domains_nothing_is_counted_by_domain(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = EmfMetrics("deliver")
    metrics.count("sent", domain="b.test")
    metrics.flush()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_every_flush_has_its_dimensions(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = EmfMetrics("deliver")
    for _ in range(2):
        metrics.count("sent")
        metrics.flush()
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["function"] for line in written] == ["deliver", "deliver"]


def test_nothing_counted_is_nothing_written(capsys: pytest.CaptureFixture[str]) -> None:
    EmfMetrics("deliver").flush()
    assert capsys.readouterr().out == ""


async def test_a_long_process_flushes_at_times_and_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock, metrics = ManualClock(), EmfMetrics("ingress")
    flushing = asyncio.create_task(metrics.flush_forever(clock, every=10))
    metrics.count("received")
    await clock.run_for(10)
    assert json.loads(capsys.readouterr().out)["received"] == [1.0]
    metrics.count("received", 4)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    assert json.loads(capsys.readouterr().out)["received"] == [4.0]
