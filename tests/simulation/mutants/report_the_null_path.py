"""A message with the null reverse-path gets a report."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        "reportable=work.message.reverse_path is not None,",
        "reportable=True,",
    ),
)
