"""What the operator may say about reports; what is wrong is named, field and all."""

from __future__ import annotations

import pytest

from empath.domain.errors import InvalidPolicy
from empath.domain.policy import read_tenant_policy
from empath.domain.report_policy import MAX_TEMPLATE, TenantPolicy


def test_no_settings_are_the_defaults() -> None:
    policy = read_tenant_policy({})
    assert policy == TenantPolicy()
    assert (policy.reports.enabled, policy.reports.send_to, policy.reports.max_per_hour) == (True, None, 1000)


def test_a_template_may_use_every_field_and_dollar_signs() -> None:
    template = {
        "subject": "[$relay] $event: $subject",
        "body": "$$5 ${relay} $subject $event $recipients $received $returned $envelope_id $report_id",
        "recipient": "$address $original $why $reply $advice $server $status $until",
    }
    assert read_tenant_policy({"reports": {"template": template}}).reports.template.subject is not None


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        ({"template": {"body": "Dear $sender"}}, r"reports.template.body: .*unknown field \$sender"),
        ({"template": {"subject": "$recipients"}}, r"reports.template.subject: .*unknown field \$recipients"),
        ({"template": {"recipient": "${relay}"}}, r"reports.template.recipient: .*unknown field \$relay"),
        ({"template": {"body": "It costs $ 5"}}, r"reports.template.body: .*write \$\$"),
        ({"template": {"body": "${recipients.__class__}"}}, r"reports.template.body: .*write \$\$"),
        ({"template": {"body": ""}}, "reports.template.body"),
        ({"template": {"body": "x" * (MAX_TEMPLATE + 1)}}, "reports.template.body"),
        ({"template": {"footer": "x"}}, "reports.template.footer"),
        ({"send_to": "nobody"}, "reports.send_to: .*no '@domain'"),
        ({"max_per_hour": 0}, "reports.max_per_hour"),
        ({"full_message_up_to": 5_000_000}, "reports.full_message_up_to"),
        ({"enabled": "perhaps"}, "reports.enabled"),
        ({"enable": False}, "reports.enable"),
    ],
)
def test_a_wrong_setting_is_named(reports: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidPolicy, match=told):
        read_tenant_policy({"reports": reports})
