"""The mark that mail may have been taken is written when the next hop has answered."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        """\
            before_commit=ambiguity.marker(
                self.ledger, self.clock, record, owner=work.owner, policy=work.policy.on_ambiguous
            ),
""",
        "",
    ),
    (
        "empath.pipeline.deliver",
        """\
            done = await work.next_hop.deliver(transaction, time_left=lambda: work.invocation.for_attempts)
""",
        """\
            done = await work.next_hop.deliver(transaction, time_left=lambda: work.invocation.for_attempts)
            mark = ambiguity.marker(
                self.ledger, self.clock, record, owner=work.owner, policy=work.policy.on_ambiguous
            )
            if mark is not None:
                await mark()
""",
    ),
)
