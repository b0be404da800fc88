"""What the adapter of Secrets Manager makes of answers that emulators do not give."""

from __future__ import annotations

from typing import Any, cast

import pytest

from empath.aws.secrets import SecretsManagerSecrets
from empath.domain.errors import SecretTrouble, SecretUnusable
from tests.unit.aws.scripted import ScriptedClient, refusal


def secrets_on(*answers: Any) -> SecretsManagerSecrets:
    return SecretsManagerSecrets(cast(Any, ScriptedClient(get_secret_value=list(answers))))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", "its role needs secretsmanager:GetSecretValue"),
        ("DecryptionFailure", "KMS key"),
        ("ValidationException", "no name of a secret"),
        ("InvalidParameterException", "no name of a secret"),
    ],
)
async def test_what_somebody_has_to_mend_is_said(code: str, words: str) -> None:
    with pytest.raises(SecretUnusable, match=f"the secret 'mx' cannot be read: .*{words}"):
        await secrets_on(refusal(400, code)).text("mx")


@pytest.mark.parametrize("code", ["InternalServiceError", "ThrottlingException"])
async def test_what_may_be_gone_at_the_next_try_is_trouble(code: str) -> None:
    secrets = secrets_on(refusal(500, code), {"SecretString": "value"})
    with pytest.raises(SecretTrouble, match=code):
        await secrets.text("mx")
    assert await secrets.text("mx") == "value"


async def test_an_answer_without_a_value_is_no_secret() -> None:
    with pytest.raises(SecretUnusable, match="holds no text"):
        await secrets_on({"Name": "mx"}).text("mx")
