"""A report counts as sent before it is handed in."""

PATCHES = (
    (
        "empath.pipeline.dsn",
        """\
        message = await self.ledger.message(job.message_id)
        state: ReportState""",
        """\
        await self.ledger.mark_reported(job.key, job.event)
        message = await self.ledger.message(job.message_id)
        state: ReportState""",
    ),
)
