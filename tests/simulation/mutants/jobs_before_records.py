"""Resolve sends its jobs before it writes the records that they need."""

PATCHES = (
    (
        "empath.pipeline.resolve",
        """\
        stored = await self.ledger.create(message, deliveries)
""",
        """\
        await self.queue.send(
            queue_of_first(job.priority),
            [_first_attempt(known, job.trace_header) for known in deliveries if not known.is_final],
        )
        stored = await self.ledger.create(message, deliveries)
""",
    ),
    (
        "empath.pipeline.resolve",
        """\
            [_first_attempt(record, job.trace_header) for record in stored if record.status is State.QUEUED],
""",
        """\
            [],
""",
    ),
)
