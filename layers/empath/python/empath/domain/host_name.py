"""Host names as routes may have them: what comes out of DNS, or from a person, is a stranger's text."""

from __future__ import annotations

import re

# sub-domain *("." sub-domain) of RFC 5321 §4.1.2, in lower case, with the underscores that exist
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


def is_host_name(text: str) -> bool:
    """Whether `text` is a name in A-labels and lower case, without a final dot."""
    return _HOST_NAME.fullmatch(text) is not None
