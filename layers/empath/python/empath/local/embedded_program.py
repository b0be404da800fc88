"""The program of the embedded AWS, run by the interpreter of `.venv-aws`; nothing of the library is there.

It starts MiniStack, writes its state down when the parent asks, stops it when the parent closes the pipe or
is gone, and sets straight two things in its evaluation of IAM: requests over the loopback interface count as
protected on their way, as they are in AWS, so that policies which refuse plain HTTP stay in force; and SQS's
batch calls are what IAM knows them as, the action on one message.
"""

import importlib
import os
import signal
import sys
import threading
import time
from typing import Any

# Seconds for invocations under way to finish, before their workers are ended.
GRACE = 2.0


def stop_with_parent(runtime: Any) -> None:
    """Read the pipe that only the parent holds open: an octet asks for the state to be written down, its end
    for an orderly stop, however it came."""
    while os.read(sys.stdin.fileno(), 1):
        write_state()
    # At once, while invocations come to their end: on a machine with too much to do the parent's patience may
    # be over before that, and mail that was accepted would be gone.
    early = threading.Thread(target=write_state)
    early.start()
    end_workers(runtime)
    early.join()
    # MiniStack does so, too, once every request has its answer; the parent may not wait that long.
    write_state()
    os.kill(os.getpid(), signal.SIGTERM)


def write_state() -> None:
    """Write everything down, service by service; each file changes as a whole."""
    app = sys.modules.get("ministack.app")
    if app is not None:
        app.save_all(app._build_persistence_save_dict())


def end_workers(runtime: Any) -> None:
    """Take no new invocation, let those under way finish for a while, and collect the workers.

    Before the server is asked to stop, because it waits for requests that wait for workers. Jobs of refused
    invocations stay in their queues.
    """
    invoker = sys.modules.get("ministack.services.lambda_svc")
    if invoker is not None:
        invoker.acquire_worker = lambda *_, **__: (None, "func_cap")  # type: ignore[attr-defined]
    deadline = time.monotonic() + GRACE
    while runtime.workers_in_use() and time.monotonic() < deadline:
        time.sleep(0.02)
    with runtime._lock:
        workers = [worker for pool in runtime._workers.values() for worker in pool]
    for worker in workers:
        # Thousands of files each, which the next start removes in its own time.
        worker._discard_tmpdir = lambda: None
    runtime.kill_workers(workers)


def trust_the_loopback_interface(evaluator: Any) -> None:
    """Let every request count as sent over TLS (the condition key aws:SecureTransport)."""
    pin = evaluator.pin_request_origin
    evaluator.pin_request_origin = lambda source, secure: pin(source, True)


def name_batches_as_iam_does(actions: Any) -> None:
    """IAM has sqs:SendMessage, no sqs:SendMessageBatch."""
    of_target = actions._action_from_target

    def action(headers: dict[str, str]) -> str | None:
        name: str | None = of_target(headers)
        if name and headers.get("x-amz-target", "").startswith("AmazonSQS"):
            return name.removesuffix("Batch")
        return name

    actions._action_from_target = action


def main() -> None:
    """Run until SIGTERM."""
    runtime = importlib.import_module("ministack.core.lambda_runtime")
    threading.Thread(target=stop_with_parent, args=(runtime,), daemon=True).start()
    trust_the_loopback_interface(importlib.import_module("ministack.core.iam_evaluator"))
    name_batches_as_iam_does(importlib.import_module("ministack.core.iam_actions"))
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
