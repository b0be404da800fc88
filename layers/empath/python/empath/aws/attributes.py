"""Plain values as DynamoDB's attribute values and back: the low-level format of its API and of its streams.

Small on purpose: text, numbers, truth, nothing, lists, maps and sets of text are all that this project
stores; boto3's serialiser, which knows the rest, is not in the Lambda layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Attribute = dict[str, Any]
Item = dict[str, Attribute]


def encode(value: Any) -> Attribute:
    """`value` as an attribute value. TypeError for what this project does not store.

    DynamoDB knows no empty set: leave the attribute out instead.
    """
    match value:
        case str():
            return {"S": str(value)}
        case bool():
            return {"BOOL": value}
        case int() | float():
            return {"N": repr(value)}
        case None:
            return {"NULL": True}
        case Mapping():
            return {"M": {str(name): encode(inner) for name, inner in value.items()}}
        case list() | tuple():
            return {"L": [encode(inner) for inner in value]}
        case set() | frozenset() if value:
            return {"SS": sorted(value)}
    raise TypeError(f"not a value that the ledger stores: {type(value).__name__}")


def decode(attribute: Mapping[str, Any]) -> Any:
    """The plain value; a number without a fraction is an int. ValueError for types that are not ours."""
    [(kind, value)] = attribute.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return _number(value)
        case "M":
            return {name: decode(inner) for name, inner in value.items()}
        case "L":
            return [decode(inner) for inner in value]
        case "SS":
            return frozenset(value)
        case "NULL":
            return None
    raise ValueError(f"an attribute of type {kind}")


def encode_item(values: Mapping[str, Any]) -> Item:
    return {name: encode(value) for name, value in values.items()}


def decode_item(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: decode(attribute) for name, attribute in item.items()}


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        return int(number) if number.is_integer() else number
