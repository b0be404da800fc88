"""Every deferral of a late recipient is reported."""

PATCHES = (
    (
        "empath.pipeline.report_events",
        """\
        and recipient.delay_reported is None
""",
        "",
    ),
)
