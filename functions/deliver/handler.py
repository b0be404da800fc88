"""The door of the deliver stage: jobs from `delivery` and `retry`."""

from empath.bootstrap import functions_runtime
from empath.door import Context, Event, Failures, seconds_left, work_on_jobs
from empath.pipeline.deliver import Delivery, Invocation
from empath.pipeline.jobs import DeliveryJob
from empath.ports import QueueName, ReceivedJob

runtime = functions_runtime()


async def work(event: Event, invocation: Invocation) -> Failures:
    ports = runtime.ports
    await ports.open("spool", "queue", "ledger", "control", "gatekeeper", "slow_sites", "routes")
    stage = Delivery.over(ports)

    async def one(job: DeliveryJob, received: ReceivedJob, queue: QueueName) -> bool:
        return await stage.deliver(job, queue=queue, received=received, invocation=invocation)

    return await work_on_jobs(event, DeliveryJob, one, ports)


def handler(event: Event, context: Context) -> Failures:
    return runtime.run(work(event, Invocation.begun(seconds_left(context))))
