"""Why a recipient or a delivery is in the state that it is in, recorded with it."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    NEXT_HOP_REPLY = "next_hop_reply"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_LOST = "connection_lost"
    TIMEOUT = "timeout"
    TLS_FAILED = "tls_failed"
    PROTOCOL_ERROR = "protocol_error"
    NULL_MX = "null_mx"
    NO_SUCH_DOMAIN = "no_such_domain"
    NO_ADDRESS = "no_address"
    DNS_TROUBLE = "dns_trouble"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    LOOP = "loop"
    NEEDS_SMTPUTF8 = "needs_smtputf8"
    TOO_BIG = "too_big"
    WORKER_FAILED = "worker_failed"
    ATTEMPTS_USED_UP = "attempts_used_up"
    EXPIRED = "expired"
    CONTENT_LOST = "content_lost"
    SUPPRESSED = "suppressed"
    CIRCUIT_OPEN = "circuit_open"
    SLOT_RESERVED = "slot_reserved"
    RATE_LIMITED = "rate_limited"
    CONNECTIONS_IN_USE = "connections_in_use"
    ROUTE_UNUSABLE = "route_unusable"
    AUTH_FAILED = "auth_failed"
    AMBIGUOUS = "ambiguous"
    FROZEN = "frozen"
    OPERATOR_HOLD = "operator_hold"
    OPERATOR_RELEASE = "operator_release"
    OPERATOR_RETRY = "operator_retry"
    OPERATOR_DELETE = "operator_delete"
