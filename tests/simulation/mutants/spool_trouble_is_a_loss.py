"""A raw object that cannot be read just now counts as lost."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        """\
            refused = Deferred(
                Reply.of(451, "4.3.0", "The raw message could not be read"), Reason.WORKER_FAILED
            )""",
        """\
            refused = Failed(Reply.of(554, "5.3.0", "The raw message is gone"), Reason.CONTENT_LOST)""",
    ),
)
