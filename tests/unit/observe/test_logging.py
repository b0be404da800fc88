"""Log lines: JSON, about the right thing, and never about what must not be logged."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from empath.domain.delivery_state import State
from empath.observe.logging import OWN_LOGGERS, REDACTED, configure, log_context

logger = logging.getLogger("empath.test")


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What `configure` writes to; the loggers are as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in OWN_LOGGERS}
    stream = io.StringIO()
    configure("deliver", to=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_says_when_where_what_and_about_what(output: io.StringIO) -> None:
    logger.info("delivered to %s", "mx", extra={"message_id": "M1", "attempt": 2, "state": State.SENT})
    (line,) = lines(output)
    assert line["message"] == "delivered to mx"
    assert line["level"] == "INFO"
    assert line["timestamp"].endswith("+00:00")
    assert (line["service"], line["function"]) == ("empath", "deliver")
    assert (line["message_id"], line["attempt"], line["state"]) == ("M1", 2, "SENT")
    assert "taskName" not in line


def test_the_context_is_on_every_line_inside_and_extra_comes_before_it(output: io.StringIO) -> None:
    with log_context(message_id="M1", delivery=None), log_context(attempt=1):
        logger.info("a")
        logger.info("b", extra={"attempt": 7})
    logger.info("c")
    first, second, third = lines(output)
    assert (first["message_id"], first["attempt"]) == ("M1", 1)
    assert "delivery" not in first
    assert second["attempt"] == 7
    assert "message_id" not in third


async def test_contexts_of_concurrent_tasks_do_not_mix(output: io.StringIO) -> None:
    async def work(name: str) -> None:
        with log_context(message_id=name):
            for _ in range(3):
                await asyncio.sleep(0)
                logger.info(name)

    await asyncio.gather(*(work(f"M{number}") for number in range(5)))
    assert len(lines(output)) == 15
    assert all(line["message"] == line["message_id"] for line in lines(output))


def test_the_trace_is_the_contexts_or_the_invocations(
    output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=p;Sampled=0")
    logger.info("a")
    with log_context(trace_id="1-other"):
        logger.info("b")
    assert [line["trace_id"] for line in lines(output)] == ["1-5759e988-bd862e3fe1be46a994272793", "1-other"]
    assert "xray_trace_id" not in lines(output)[0]


@pytest.mark.parametrize(
    "text", ["a\r\nb\0\x1b[31m", "\x9b\u2028\u202e", "\ud800", '{"level": "fake"}', "250", "%s %d"]
)
def test_any_text_is_one_line_of_printable_ascii(output: io.StringIO, text: str) -> None:
    logger.warning(text, extra={"reply": text})
    raw = output.getvalue()
    assert raw.count("\n") == 1
    assert raw.rstrip("\n").isascii()
    assert raw.rstrip("\n").isprintable()
    (line,) = lines(output)
    assert line["message"] == text
    assert line["reply"] == text


@pytest.mark.parametrize("name", ["password", "content", "token"])
def test_fields_that_hold_content_or_credentials_are_redacted(output: io.StringIO, name: str) -> None:
    logger.info("x", extra={name: "sesame"})
    assert lines(output)[0][name] == REDACTED
    assert "sesame" not in output.getvalue()


def test_the_level_is_ours_alone(output: io.StringIO) -> None:
    configure("deliver", "DEBUG", to=output)
    logging.getLogger("botocore.endpoint").debug("request with body")
    logging.getLogger("empath.x").debug("ours")
    assert [line["message"] for line in lines(output)] == ["ours"]


def test_an_exception_is_told_with_its_traceback(output: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed")
    (line,) = lines(output)
    assert line["exception_name"] == "ValueError"
    assert "Traceback" in line["exception"]


def test_configured_twice_a_line_is_written_once(output: io.StringIO) -> None:
    configure("deliver", to=output)
    logger.info("a")
    assert len(lines(output)) == 1
