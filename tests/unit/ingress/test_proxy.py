"""The PROXY protocol: who the client is, said before anything else by a balancer that is trusted."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empath.domain.network import IPAddress
from empath.ingress.proxy import MAX_V2_REST, SIGNATURE, ProxyFault, ProxyReader

TCP4 = bytes([203, 0, 113, 7, 10, 0, 0, 1]) + b"\xc0\x00\x00\x19"
TCP6 = ip_address("2001:db8::7").packed + ip_address("fd00::1").packed + b"\xc0\x00\x00\x19"
MAPPED = ip_address("::ffff:203.0.113.7").packed + ip_address("fd00::1").packed + b"\xc0\x00\x00\x19"


def v2(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def read(octets: bytes, piece: int = 10_000) -> tuple[ProxyReader, bytes]:
    """The reader at the end of its header, and what it left alone."""
    reader = ProxyReader()
    while not reader.is_done and octets:
        size = min(reader.wanted, piece)
        assert size > 0
        reader.feed(octets[:size])
        octets = octets[size:]
    return reader, octets


HEADERS: dict[bytes, str | None] = {
    v2(0x21, 0x11, TCP4): "203.0.113.7",
    v2(0x21, 0x11, TCP4 + b"\x04\x00\x05hello"): "203.0.113.7",
    v2(0x21, 0x21, TCP6): "2001:db8::7",
    v2(0x21, 0x21, MAPPED): "203.0.113.7",
    v2(0x21, 0x31, bytes(216)): None,
    v2(0x21, 0x00, b""): None,
    v2(0x20, 0x00, b""): None,
    v2(0x20, 0x11, TCP4): None,
    b"PROXY TCP4 203.0.113.7 10.0.0.1 49152 25\r\n": "203.0.113.7",
    b"PROXY TCP6 2001:db8::7 fd00::1 49152 25\r\n": "2001:db8::7",
    b"PROXY TCP6 ::ffff:203.0.113.7 fd00::1 49152 25\r\n": "203.0.113.7",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff:f:f:f:f:f:f:f ffff:f:f:f:f:f:f:f 65535 65535\r\n": None,
}


@pytest.mark.parametrize("piece", [1, 5, 10_000])
@pytest.mark.parametrize(("header", "client"), HEADERS.items())
def test_the_client_is_whom_the_header_names_and_what_follows_is_left_alone(
    header: bytes, client: str | None, piece: int
) -> None:
    reader, rest = read(header + b"EHLO client.example\r\n", piece)
    assert reader.is_done
    assert reader.client == (None if client is None else ip_address(client))
    assert rest == b"EHLO client.example\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO client.example\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 49152\r\n",
        b"PROXY TCP4 2001:db8::7 fd00::1 49152 25\r\n",
        b"PROXY TCP4 999.0.113.7 10.0.0.1 49152 25\r\n",
        b"PROXY TCP5 203.0.113.7 10.0.0.1 49152 25\r\n",
        b"PROXY " + b"x" * 200,
        v2(0x11, 0x11, TCP4),
        v2(0x22, 0x11, TCP4),
        v2(0x21, 0x11, TCP4[:8]),
        v2(0x21, 0x21, TCP4),
        v2(0x21, 0x11, bytes(MAX_V2_REST + 1)),
    ],
)
def test_anything_else_is_a_fault(octets: bytes) -> None:
    with pytest.raises(ProxyFault):
        read(octets)


@given(st.binary(max_size=300), st.integers(1, 300), st.sampled_from([b"", SIGNATURE, b"PROXY "]))
def test_any_octets_in_any_pieces_end_alike(octets: bytes, piece: int, start: bytes) -> None:
    def outcome(piece: int) -> tuple[bool, IPAddress | None, bytes] | None:
        try:
            reader, rest = read(start + octets, piece)
        except ProxyFault:
            return None
        return reader.is_done, reader.client, rest

    assert outcome(piece) == outcome(10_000)
