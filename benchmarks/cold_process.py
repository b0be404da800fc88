"""A function's process from its first import to the end of its first call, for benchmarks.cold_start.

Runs with `-I -S` and the layers as its only packages, as in Lambda; reads what to do from standard input as
JSON and writes the CPU of each step (user and system, milliseconds) in the last line of its output.
"""

import importlib.machinery
import json
import os
import resource
import sys
import time
from collections import defaultdict
from typing import Any


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1000


class Parts:
    """The CPU of executing modules, by package, each without what it imports in turn."""

    def __init__(self) -> None:
        self.own: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []
        for loader, step in (
            (importlib.machinery.SourceFileLoader, "exec_module"),
            (importlib.machinery.ExtensionFileLoader, "create_module"),
            (importlib.machinery.ExtensionFileLoader, "exec_module"),
        ):
            self._watch(loader, step)

    def _watch(self, loader: Any, step: str) -> None:
        usual = getattr(loader, step)

        def watched(self_: Any, given: Any) -> Any:
            began = time.thread_time()
            self._inner.append(0.0)
            try:
                return usual(self_, given)
            finally:
                took = time.thread_time() - began
                self.own[_package(self_.name)] += (took - self._inner.pop()) * 1000
                if self._inner:
                    self._inner[-1] += took

        setattr(loader, step, watched)


def _package(module: str) -> str:
    top = module.partition(".")[0]
    return "standard library" if top in sys.stdlib_module_names else top


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def main() -> None:
    order = json.load(sys.stdin)
    os.environ.update(order["environment"])
    sys.path[:0] = order["paths"]
    parts = Parts() if order["parts"] else None
    steps = {"interpreter": cpu()}

    def step(name: str) -> None:
        steps[name] = cpu() - sum(steps.values())

    import handler  # type: ignore[import-not-found]

    step("door")
    runtime = handler.runtime
    runtime.run(runtime.ports.open(*order["ports"]))
    step("clients")
    answer = None
    if order["event"] is not None:
        answer = handler.handler(order["event"], Context())
        step("first call")
        again = handler.handler(order["event"] | {"Records": order["again"]}, Context())
        step("second call")
        answer = {"batchItemFailures": answer["batchItemFailures"] + again["batchItemFailures"]}
    made = dict(sorted(parts.own.items(), key=lambda part: -part[1])[:12]) if parts else {}
    line = {"steps": steps, "parts": made, "modules": len(sys.modules), "answer": answer}
    sys.stdout.write(f"\n{json.dumps(line)}\n")


main()
