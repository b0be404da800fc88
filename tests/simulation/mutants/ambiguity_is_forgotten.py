"""An answer that was lost after the final dot leaves no mark."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        "channel.tls, done.ambiguous, passed_on",
        "channel.tls, passed_on",
    ),
)
