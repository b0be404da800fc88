"""A dead letter is deleted before what it stands for is on its way again."""

PATCHES = (
    (
        "empath.pipeline.dead_letters",
        """\
        try:
            match name:
                case QueueName.ACCEPTED:""",
        """\
        await self.queue.delete_dead(name, job.receipt)
        try:
            match name:
                case QueueName.ACCEPTED:""",
    ),
)
