"""An answer that was lost after the final dot leaves no mark."""

PATCHES = (
    (
        "empath.pipeline.deliver",
        "                done.ambiguous,\n",
        "                False,\n",
    ),
)
