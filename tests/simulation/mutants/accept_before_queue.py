"""250 although the queue did not take the job."""

PATCHES = (
    (
        "empath.pipeline.accept",
        """\
        await self.queue.send(QueueName.ACCEPTED, [outgoing])
""",
        """\
        try:
            await self.queue.send(QueueName.ACCEPTED, [outgoing])
        except Exception:
            pass
""",
    ),
)
