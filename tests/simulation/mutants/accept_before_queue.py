"""250 although the queue did not take the job."""

PATCHES = (
    (
        "empath.pipeline.accept",
        """\
        await self.queue.send(QueueName.ACCEPTED, [OutgoingJob(body=job.encode(), trace_header=trace_header)])
""",
        """\
        try:
            await self.queue.send(QueueName.ACCEPTED, [OutgoingJob(body=job.encode())])
        except Exception:
            pass
""",
    ),
)
