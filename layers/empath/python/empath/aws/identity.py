"""Who makes calls to AWS, as AWS itself sees it."""

from __future__ import annotations

from typing import Any

from empath.aws.errors import trouble
from empath.domain.errors import ControlTrouble


async def caller_identity(sts: Any) -> str:
    """The ARN of whoever the credentials belong to; needs no permission. Raises ControlTrouble."""
    with trouble(ControlTrouble, "asking who you are (sts:GetCallerIdentity)"):
        answer = await sts.get_caller_identity()
    arn: str = answer["Arn"]
    return arn
