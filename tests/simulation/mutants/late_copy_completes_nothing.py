"""A late copy of a job is dropped without looking for missing follow-ups."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        """\
                await follow_ups.complete(record, now=now, trace_header=received.trace_header)
                logger.info("late copy""",
        """\
                logger.info("late copy""",
    ),
)
