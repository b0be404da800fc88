"""The raw object goes as soon as the first of a message's deliveries is settled."""

PATCHES = (
    (
        "empath.pipeline.journal",
        """\
            if message is None or not message.is_settled:
                return
""",
        """\
            if message is None:
                return
""",
    ),
)
