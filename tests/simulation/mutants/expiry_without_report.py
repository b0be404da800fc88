"""Recipients that expire are not reported."""

PATCHES = (
    (
        "empath.pipeline.conclude",
        """\
known.state in (State.FAILED, State.EXPIRED)
    ]
    owes""",
        """\
known.state is State.FAILED
    ]
    owes""",
    ),
)
