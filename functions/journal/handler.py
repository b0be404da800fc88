"""The door of the journal: changes of the ledger, in order, from its stream."""

from empath.bootstrap import functions_runtime
from empath.door import Context, Event, stream_changes
from empath.pipeline.chronicle import Chronicle

runtime = functions_runtime()


async def work(event: Event) -> None:
    ports = runtime.ports
    await ports.open("spool", "ledger", "audit", "events", "control", "suppressions")
    await Chronicle.over(ports).take(stream_changes(event))


def handler(event: Event, context: Context) -> None:
    # What it raises makes the stream give the batch again, halved until the one that fails is found.
    runtime.run(work(event))
