"""The job is sent before the raw message is stored, and the client hears 250 when storing fails."""

PATCHES = (
    (
        "empath.pipeline.accept",
        """\
        size = await self.spool.put(spool_key_of(message_id), content)
""",
        """\
        try:
            size = await self.spool.put(spool_key_of(message_id), content)
        except Exception:
            size = 0
""",
    ),
)
