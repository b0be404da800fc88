"""A message is closed before it is looked whether all its deliveries are settled."""

PATCHES = (
    (
        "empath.pipeline.journal",
        """\
            message = await self.ledger.settle(new.key)
            if""",
        """\
            await self.ledger.close(new.message_id, forget_at=forget_at)
            message = await self.ledger.settle(new.key)
            if""",
    ),
)
