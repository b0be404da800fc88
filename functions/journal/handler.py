"""The door of the journal: changes of the ledger, in order, from its stream."""

from empath.bootstrap import functions_runtime
from empath.door import Context, Event, Failures, delivery_changes
from empath.pipeline.journal import Journal

runtime = functions_runtime()


async def work(event: Event) -> Failures:
    ports = runtime.ports
    await ports.open("spool", "ledger")
    failed = await Journal.over(ports).note_all(delivery_changes(event))
    # A stream goes on from the first record that is named here.
    return {"batchItemFailures": [{"itemIdentifier": failed}] if failed else []}


def handler(event: Event, context: Context) -> Failures:
    return runtime.run(work(event))
