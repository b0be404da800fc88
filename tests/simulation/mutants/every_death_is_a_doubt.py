"""A worker that died before it sent anything leaves a doubt, too."""

PATCHES = (
    (
        "empath.pipeline.ambiguity",
        "attempt.commits_at is not None and attempt.duration is None for",
        "attempt.duration is None for",
    ),
)
