"""The head of a chain moves on before its block is written."""

PATCHES = (
    (
        "empath.pipeline.audit_trail",
        """\
            is_ours = await self.audit.put_new(head.next_key, content)
""",
        """\
            await self.audit.advance(head.after(content))
            is_ours = await self.audit.put_new(head.next_key, content)
""",
    ),
)
