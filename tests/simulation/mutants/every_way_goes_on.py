"""Mail that has come to the end of its way counts as relayed."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        """\
                is_final=work.policy.route.kind in FINAL,
""",
        """\
                is_final=False,
""",
    ),
)
