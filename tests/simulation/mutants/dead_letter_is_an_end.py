"""A delivery job in the dead-letter queue is deleted, and that is that."""

PATCHES = (
    (
        "empath.pipeline.dead_letters",
        """\
        record = await self.ledger.delivery(job.key)
        if record is None:
            return True
""",
        """\
        record = await self.ledger.delivery(job.key)
        if record is None or record.attempt == job.attempt:
            return True
""",
    ),
)
