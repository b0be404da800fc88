"""A job that finds the delivery leased by another worker is dropped.

If that worker dies, nobody is left.
"""

PATCHES = (
    (
        "empath.pipeline.deliver",
        """\
                logger.info("delivery is leased by another worker", extra={"seconds": wait})
                return False
""",
        """\
                return True
""",
    ),
)
