"""Domain names as DNS carries them: A-labels for what is not ASCII (RFC 5891, RFC 5321 §2.3.5)."""

from __future__ import annotations

import idna

MAX_NAME = 253  # octets as text without the final dot, RFC 1035 §2.3.4
MAX_LABEL = 63  # octets, RFC 1035 §2.3.4


def to_a_labels(domain: str) -> str:
    """The name to ask DNS for, in lower case without a final dot; ValueError says why there is none.

    Only labels that are not ASCII go through IDNA 2008 (with the mapping of UTS #46, as users type
    names): an ASCII label with an underscore or with hyphens in places where IDNA has none is asked
    for as it is, since such hosts exist.
    """
    name = domain.removesuffix(".")
    try:
        if not name.isascii():
            mapped = idna.uts46_remap(name, std3_rules=False, transitional=False)
            name = ".".join(
                label if label.isascii() else idna.alabel(label).decode("ascii")
                for label in mapped.split(".")
            )
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"not an internationalised name: {error}") from error
    if not name or len(name) > MAX_NAME:
        raise ValueError(f"a name has 1 to {MAX_NAME} octets")
    if any(not 1 <= len(label) <= MAX_LABEL for label in name.split(".")):
        raise ValueError(f"a label has 1 to {MAX_LABEL} octets")
    return name.lower()
