"""Secrets in AWS Secrets Manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from empath.aws.errors import code_of, trouble
from empath.domain.errors import SecretTrouble, SecretUnusable

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient

REFUSALS = {
    "ResourceNotFoundException": "there is none of that name, or it has no value yet",
    "AccessDeniedException": "this process may not read it: its role needs secretsmanager:GetSecretValue"
    " and, where the secret has a key of its own, kms:Decrypt",
    "DecryptionFailure": "its KMS key does not decrypt it",
    "InvalidRequestException": "it is marked for deletion",
    "InvalidParameterException": "this is no name of a secret",
    "ValidationException": "this is no name of a secret",
}
"""By error code: what somebody has to mend. Any other failure may be gone at the next try."""


class SecretsManagerSecrets:
    def __init__(self, client: SecretsManagerClient) -> None:
        self._client = client

    async def text(self, name: str) -> str:
        with trouble(SecretTrouble, f"reading the secret {name!r}"):
            try:
                answer = await self._client.get_secret_value(SecretId=name)
            except ClientError as error:
                refusal = REFUSALS.get(code_of(error))
                if refusal is None:
                    raise
                raise SecretUnusable(f"the secret {name!r} cannot be read: {refusal}") from None
        # Either one, whatever the stubs say.
        value = answer.get("SecretString")
        try:
            return answer["SecretBinary"].decode() if value is None else value
        except (KeyError, UnicodeDecodeError):
            raise SecretUnusable(f"the secret {name!r} holds no text") from None
