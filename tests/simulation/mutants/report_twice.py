"""Every try of a report job makes a report with an id of its own."""

PATCHES = (
    (
        "empath.pipeline.dsn",
        """\
        report_id = report_id_of(record.key, name, message.received_at)
""",
        """\
        report_id = report_id_of(record.key, name, self.clock.now())
""",
    ),
)
