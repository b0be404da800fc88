"""An address is put on the suppression list only if nothing else of the batch is to be done."""

PATCHES = (
    (
        "empath.pipeline.chronicle",
        """\
        if suppressions is None or control is None:
""",
        """\
        if suppressions is None or control is None or len(changes) > 1:
""",
    ),
)
