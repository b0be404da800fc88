"""Resolve is done when the records are written, although their jobs could not be sent."""

PATCHES = (
    (
        "empath.pipeline.resolve",
        """\
        await self._write(job, await self._routed_in_time(""",
        """\
        from empath.domain.errors import QueueTrouble

        try:
            await self._write_all(job, fresh)
        except QueueTrouble:
            pass

    async def _write_all(self, job: AcceptedJob, fresh: list[DeliveryRecord]) -> None:
        await self._write(job, await self._routed_in_time(""",
    ),
)
