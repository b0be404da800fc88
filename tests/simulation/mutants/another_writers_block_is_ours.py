"""A key of the audit trail that is taken counts as our own earlier try."""

PATCHES = (
    (
        "empath.pipeline.audit_trail",
        """\
                content = await self._taken(head)
""",
        """\
                return
""",
    ),
)
