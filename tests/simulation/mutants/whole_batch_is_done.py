"""A job that fails does not come back when its batch had others that went well."""

PATCHES = (
    (
        "empath.pipeline.batch",
        "zip(jobs, done, strict=True) if not is_done]",
        "zip(jobs, done, strict=True) if not any(done)]",
    ),
)
