"""What the spool cannot delete now is never deleted."""

PATCHES = (
    (
        "empath.pipeline.journal",
        """\
            await self.spool.delete(message.spool_key)
""",
        """\
            try:
                await self.spool.delete(message.spool_key)
            except Exception:
                pass
""",
    ),
)
