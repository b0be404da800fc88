"""The job of a report goes by what was composed last, whatever an earlier try has stored."""

PATCHES = (
    (
        "empath.pipeline.dsn",
        "content = await self._stored(report.report_id) or composed",
        "content = composed",
    ),
)
