"""The door of the dsn stage: jobs from `dsn`."""

from empath.bootstrap import functions_runtime
from empath.door import Context, Event, Failures, work_on_jobs
from empath.pipeline.dsn import Reporting
from empath.pipeline.jobs import DsnJob
from empath.ports import QueueName, ReceivedJob

runtime = functions_runtime()


async def work(event: Event) -> Failures:
    ports = runtime.ports
    await ports.open("spool", "queue", "ledger", "control", "quotas")
    stage = Reporting.over(ports)

    async def one(job: DsnJob, received: ReceivedJob, queue: QueueName) -> bool:
        await stage.report(job)
        return True

    return await work_on_jobs(event, DsnJob, one, ports)


def handler(event: Event, context: Context) -> Failures:
    return runtime.run(work(event))
