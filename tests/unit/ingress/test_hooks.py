"""Hooks: how they are found, how they are called, and that nothing they do hurts more than their own mail."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from empath.domain.address import Mailbox
from empath.domain.envelope import Recipient, Source
from empath.domain.errors import ConfigError
from empath.ingress.hooks import Session, Verdict, refuse
from empath.ingress.hooks_loading import load_hooks
from empath.ingress.hooks_runner import MAX_LEFT_BEHIND, Hook, Hooks, SessionHooks
from empath.testing.metrics import CountedMetrics

SOURCE = Source(client="192.0.2.1", helo="client.example", user="ann", tls="TLSv1.3")
BOB = Recipient(mailbox=Mailbox("bob", "two.example"))
REFUSED = "550 5.7.1 No"
TROUBLE = "451 4.3.0 Temporary system problem, please try again later"
HEADER = "from empath.ingress.hooks import Verdict, hookimpl, refuse\n"


# Loading


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write a module; its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(source: str) -> str:
        name = f"hooks_of_{tmp_path.name.replace('-', '_')}_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


Write = Callable[[str], str]


def test_no_module_is_no_hooks() -> None:
    assert load_hooks([]) is None


async def test_hooks_are_called_in_the_order_of_their_modules(module: Write) -> None:
    source = HEADER + (
        "@hookimpl{0}\n"
        "def helo(session):\n"
        "    return Verdict(metadata={{'order': [*session.metadata.get('order', []), {1}]}})\n"
    )
    names = [module(source.format(*each)) for each in [("", 1), ("", 2), ("(tryfirst=True)", 3)]]
    hooks = load_hooks([*names, names[0]])
    assert hooks is not None
    assert [hooks.has(name) for name in ("helo", "connect", "message")] == [True, False, False]
    decision = await hooks.run("helo", Session(), {"name": "x"}, CountedMetrics())
    assert decision.metadata == {"order": [3, 1, 2]}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import no_such_module\n",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("def rcpt(:\n", "cannot be imported: SyntaxError"),
        ("raise KeyError('setting')\n", "cannot be imported: KeyError: 'setting'"),
        ("", "has no function that is marked @hookimpl"),
        ("def rcpt(session): ...\n", "has no function that is marked @hookimpl"),
        (HEADER + "@hookimpl\ndef rcpt(session, sender): ...\n", "sender"),
        (HEADER + "@hookimpl\ndef recipient(session): ...\n", "unknown hook 'recipient'"),
        (HEADER + "@hookimpl\ndef rcpt(session):\n    yield\n", "is a generator"),
        (HEADER + "@hookimpl\nasync def rcpt(session):\n    yield\n", "is a generator"),
        (HEADER + "@hookimpl(wrapper=True)\ndef rcpt(session):\n    return (yield)\n", "wrappers"),
    ],
)
def test_a_module_that_cannot_be_used_ends_the_start_and_is_named(
    module: Write, source: str, reason: str
) -> None:
    name = module(source)
    with pytest.raises(ConfigError) as caught:
        load_hooks([name])
    assert str(caught.value).startswith("EMPATH_HOOKS: ")
    assert name in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_packages_bring_hooks_by_entry_point(
    module: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module(HEADER + "@hookimpl\ndef connect(): return refuse(554, '5.7.1', 'Closed')\n")
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[empath.hooks]\nclosed = {name}\n")
    for modules in ([], [name]):
        hooks = load_hooks(modules)
        assert hooks is not None
        decision = await hooks.run("connect", Session(), {}, CountedMetrics())
        assert str(decision.reply) == "554 5.7.1 Closed"
    (info / "entry_points.txt").write_text("[empath.hooks]\nclosed = no_such_module\n")
    with pytest.raises(ConfigError, match=r"entry point closed of empath\.hooks cannot be loaded"):
        load_hooks([])
    (info / "entry_points.txt").write_text(f"[empath.hooks]\nclosed = {module('')}\n")
    with pytest.raises(ConfigError, match=r"^empath\.hooks: module .* has no function"):
        load_hooks([])


# Running


def hooks_of(*functions: Callable[..., Any], kind: str = "rcpt", **limits: Any) -> Hooks:
    return Hooks(
        {
            kind: [
                Hook(f"test.{function.__name__}", function, (), asyncio.iscoroutinefunction(function))
                for function in functions
            ]
        },
        **limits,
    )


def quick(*functions: Callable[..., Any]) -> Hooks:
    return hooks_of(*functions, time_limit=0.05, threads=2)


async def ask(hooks: Hooks, metrics: CountedMetrics | None = None, kind: str = "rcpt") -> str | None:
    decision = await hooks.run(kind, Session(), {}, metrics or CountedMetrics())
    return None if decision.reply is None else str(decision.reply)


def refusing() -> Verdict:
    return refuse(550, "5.7.1", "No")


async def refusing_later() -> Verdict:
    await asyncio.sleep(0)
    return refusing()


def raising() -> None:
    raise ZeroDivisionError


async def raising_later() -> None:
    raise ZeroDivisionError


def stopping() -> None:
    raise StopIteration


def leaving() -> None:
    sys.exit(1)


async def leaving_later() -> None:
    sys.exit(1)


async def cancelling() -> None:
    raise asyncio.CancelledError


def lazy() -> Any:
    return refusing_later()


def odd() -> Any:
    return Verdict(headers=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("hook", [refusing, refusing_later])
async def test_the_first_refusal_is_the_answer(hook: Callable[..., Any]) -> None:
    called: list[int] = []
    hooks = hooks_of(lambda: called.append(1), hook, lambda: called.append(2))
    assert await ask(hooks) == REFUSED
    assert called == [1]


@pytest.mark.parametrize(
    "hook", [raising, raising_later, stopping, leaving, leaving_later, cancelling, lazy, odd]
)
async def test_a_hook_that_fails_is_451_logged_by_name_and_counted(
    hook: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    metrics = CountedMetrics()
    assert await ask(hooks_of(hook, refusing), metrics) == TROUBLE
    assert metrics.counts == {"hook_failed": 1}
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.__dict__["hook"] == f"test.{hook.__name__}"


async def test_a_coroutine_that_is_too_slow_is_451_and_cancelled() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert await ask(quick(slow)) == TROUBLE
    await asyncio.wait_for(ended.wait(), 5)


async def test_coroutines_that_cannot_be_cancelled_are_left_behind_and_not_without_end() -> None:
    release = asyncio.Event()
    begun = 0

    async def stubborn() -> None:
        nonlocal begun
        begun += 1
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    hooks = quick(stubborn)
    assert await asyncio.gather(*(ask(hooks) for _ in range(MAX_LEFT_BEHIND))) == [TROUBLE] * MAX_LEFT_BEHIND
    assert await ask(hooks) == TROUBLE
    assert begun == MAX_LEFT_BEHIND
    release.set()
    await asyncio.sleep(0.01)
    assert await ask(hooks) is None


@asynccontextmanager
async def stuck_threads() -> AsyncIterator[tuple[Callable[[], None], threading.Event]]:
    release = threading.Event()

    def stuck() -> None:
        release.wait(30)

    try:
        yield stuck, release
    finally:
        release.set()


async def test_a_stuck_function_does_not_block_the_loop_and_its_thread_is_lost_until_it_comes_back() -> None:
    async with stuck_threads() as (stuck, release):
        calls = itertools.count()

        def counted() -> None:
            next(calls)
            stuck()

        hooks = quick(counted)
        assert await asyncio.gather(*(ask(hooks) for _ in range(2))) == [TROUBLE] * 2
        assert await ask(hooks) == TROUBLE  # at once: nobody is waited for
        assert next(calls) == 2
        release.set()
        while await ask(hooks) == TROUBLE:
            await asyncio.sleep(0.005)
        assert next(calls) > 3


async def test_functions_that_wait_for_a_thread_get_one_when_another_is_done() -> None:
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def brief() -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        threading.Event().wait(0.005)
        with lock:
            running.pop()

    hooks = hooks_of(brief, threads=3)
    assert await asyncio.gather(*(ask(hooks) for _ in range(12))) == [None] * 12
    assert max(most) <= 3


async def test_a_session_that_ends_cancels_its_hook() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(ask(hooks_of(slow)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_session_that_ends_while_its_hook_waits_for_a_thread_takes_none() -> None:
    async with stuck_threads() as (stuck, release):
        hooks = hooks_of(stuck, threads=1)
        first = asyncio.create_task(ask(hooks))
        second = asyncio.create_task(ask(hooks))
        await asyncio.sleep(0.01)
        second.cancel()
        release.set()
        assert await first is None
        assert await ask(hooks) is None


# Sessions


def setting(**metadata: Any) -> Callable[[], Verdict]:
    def sets() -> Verdict:
        return Verdict(metadata=metadata)

    return sets


async def test_metadata_of_a_session_stays_and_that_of_a_transaction_ends_with_it() -> None:
    kinds = {"connect": setting(c=1), "helo": setting(h=1), "mail": setting(m=1), "rcpt": setting(r=1)}
    hooks = Hooks({kind: [Hook(kind, function, (), False)] for kind, function in kinds.items()})
    session = SessionHooks(hooks, CountedMetrics())
    assert await session.connect(SOURCE) is None
    assert await session.helo(SOURCE, "client.example") is None
    session.transaction_begins()
    assert await session.mail(SOURCE, None) is None
    assert await session.rcpt(SOURCE, None, BOB) is None
    assert session.metadata == {"c": 1, "h": 1, "m": 1, "r": 1}
    session.transaction_begins()
    assert session.metadata == {"c": 1, "h": 1}
    assert await session.helo(SOURCE, "again.example") is None
    assert session.metadata == {"c": 1, "h": 1}


async def test_what_a_client_said_before_tls_is_forgotten_with_its_metadata() -> None:
    answers = iter([Verdict(metadata={"h": 1}), None])
    hooks = Hooks({"helo": [Hook("helo", lambda: next(answers), (), False)]})
    session = SessionHooks(hooks, CountedMetrics())
    await session.helo(SOURCE, "before.example")
    assert session.metadata == {"h": 1}
    await session.helo(SOURCE, "after.example")
    assert session.metadata == {}


async def test_a_refused_recipient_sets_nothing() -> None:
    hooks = hooks_of(setting(r=1), refusing)
    session = SessionHooks(hooks, CountedMetrics())
    assert str(await session.rcpt(SOURCE, None, BOB)) == REFUSED
    assert session.metadata == {}


async def test_a_hook_sees_who_is_there_and_a_copy_of_what_is_set() -> None:
    seen: list[tuple[Session, Recipient]] = []

    def looking(session: Session, recipient: Recipient) -> None:
        seen.append((session, recipient))
        session.metadata["of"].append("nobody's business")

    hooks = Hooks(
        {
            "connect": [Hook("connect", setting(of=["connect"]), (), False)],
            "rcpt": [Hook("rcpt", looking, ("session", "recipient"), False)],
        }
    )
    session = SessionHooks(hooks, CountedMetrics(), submission=True)
    await session.connect(SOURCE)
    await session.rcpt(SOURCE, None, BOB)
    [(view, recipient)] = seen
    assert (view.client, view.helo, view.user, view.tls) == (
        "192.0.2.1",
        "client.example",
        "ann",
        "TLSv1.3",
    )
    assert view.submission
    assert recipient == BOB
    assert session.metadata == {"of": ["connect"]}
