"""The door of the clock: every minute, due deliveries and dead letters."""

from empath.bootstrap import functions_runtime
from empath.door import Context, Event, seconds_left
from empath.pipeline.batch import all_of
from empath.pipeline.dead_letters import DeadLetters
from empath.pipeline.retry import RetryClock

runtime = functions_runtime()


async def work(context: Context) -> dict[str, int]:
    ports = runtime.ports
    await ports.open("spool", "queue", "ledger", "control", "resolver", "suppressions")
    remaining = seconds_left(context)
    # Side by side: neither a long listing nor trouble with it keeps dead letters waiting, nor the reverse.
    queued, revived = await all_of(
        [RetryClock.over(ports).tick(remaining), DeadLetters.over(ports).sweep(remaining)]
    )
    return {"queued": queued, "revived": revived}


def handler(event: Event, context: Context) -> dict[str, int]:
    return runtime.run(work(context))
