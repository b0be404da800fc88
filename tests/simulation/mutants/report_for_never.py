"""A recipient with NOTIFY=NEVER is reported like one without NOTIFY."""

PATCHES = (
    (
        "empath.pipeline.report_events",
        "if notify is None else",
        'if notify in (None, ("NEVER",)) else',
    ),
)
