"""What routes other than MX need of AWS: each is allowed only where a deployment names it."""

import re
from typing import Literal

from pydantic import BaseModel, field_validator

_SECRET = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}")


class RouteRights(BaseModel):
    """Which secrets policies may name, and whether they may name SES; policies are written at runtime."""

    # Secrets of smarthosts and webhooks that policies may name: ARNs, comma-separated.
    route_secrets: str = ""
    # Whether policies may send mail by SES.
    ses: Literal["on", "off"] = "off"

    @field_validator("route_secrets")
    @classmethod
    def _secrets(cls, value: str) -> str:
        arns = [arn for part in value.split(",") if (arn := part.strip())]
        for arn in arns:
            if not _SECRET.fullmatch(arn):
                raise ValueError(f"expected ARNs of secrets, comma-separated, not {arn!r}")
        return ",".join(arns)

    @property
    def route_secret_arns(self) -> list[str]:
        return self.route_secrets.split(",") if self.route_secrets else []
