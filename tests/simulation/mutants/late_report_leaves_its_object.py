"""The bug that the simulator found: a late report job puts a raw object back and forgets it."""

PATCHES = (
    (
        "empath.pipeline.dsn",
        "                await self._clear_away(record, job.event)",
        "                pass",
    ),
)
