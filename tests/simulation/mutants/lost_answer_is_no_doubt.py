"""Where the answer to the final dot was lost, mail is tried again whatever policy says."""

PATCHES = (
    (
        "empath.pipeline.ambiguity",
        """\
    if policy == "retry" or not result.ambiguous:
""",
        """\
    if True:
""",
    ),
)
