"""An outcome that cannot be recorded counts as done.

The job is acknowledged, the ledger waits for ever.
"""

PATCHES = (
    (
        "empath.pipeline.deliver",
        """\
                    logger.exception("the outcome of an attempt could not be recorded")
                    raise
""",
        """\
                    return conclusion.record
""",
    ),
)
