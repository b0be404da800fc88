"""The door of the clock: every minute, due deliveries and dead letters."""

from empath.bootstrap import functions_runtime
from empath.door import Context, Event, seconds_left
from empath.pipeline.dead_letters import DeadLetters
from empath.pipeline.retry import RetryClock

runtime = functions_runtime()


async def work(context: Context) -> dict[str, int]:
    ports = runtime.ports
    await ports.open("spool", "queue", "ledger", "control", "resolver")
    remaining = seconds_left(context)
    queued = await RetryClock.over(ports).tick(remaining)
    revived = await DeadLetters.over(ports).sweep(remaining)
    return {"queued": queued, "revived": revived}


def handler(event: Event, context: Context) -> dict[str, int]:
    return runtime.run(work(context))
