"""The program of the embedded AWS, run by the interpreter of `.venv-aws`; nothing of the library is there.

It starts MiniStack, ends it when the parent is gone, and sets straight two things in its evaluation of IAM:
requests over the loopback interface count as protected on their way, as they are in AWS, so that policies
which refuse plain HTTP stay in force; and SQS's batch calls are what IAM knows them as, the action on one
message.
"""

import importlib
import os
import signal
import sys
import threading
from typing import Any


def until_parent_is_gone() -> None:
    """Read the pipe that only the parent holds open; its end means that an orderly stop is due."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


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
    threading.Thread(target=until_parent_is_gone, daemon=True).start()
    trust_the_loopback_interface(importlib.import_module("ministack.core.iam_evaluator"))
    name_batches_as_iam_does(importlib.import_module("ministack.core.iam_actions"))
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
