"""The door of the resolve stage: jobs from `accepted`."""

from empath.bootstrap import functions_runtime
from empath.door import Context, Event, Failures, work_on_jobs
from empath.pipeline.jobs import AcceptedJob
from empath.pipeline.resolve import Resolution
from empath.ports import QueueName, ReceivedJob

runtime = functions_runtime()


async def work(event: Event) -> Failures:
    ports = runtime.ports
    await ports.open("spool", "queue", "ledger", "control", "resolver", "suppressions")
    stage = Resolution.over(ports)

    async def one(job: AcceptedJob, received: ReceivedJob, queue: QueueName) -> bool:
        await stage.resolve(job)
        return True

    return await work_on_jobs(event, AcceptedJob, one, ports)


def handler(event: Event, context: Context) -> Failures:
    return runtime.run(work(event))
