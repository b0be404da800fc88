"""What the spool cannot delete now is never deleted."""

PATCHES = (
    (
        "empath.pipeline.journal",
        """\
        await self.spool.delete(key)
""",
        """\
        try:
            await self.spool.delete(key)
        except Exception:
            pass
""",
    ),
)
