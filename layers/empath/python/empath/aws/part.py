"""Request bodies of up to a part: memory that is allocated seldom, and octets that are never copied again.

Both were measured with a hundred sessions that stream while S3 stalls (benchmarks/streaming_memory.py). A
bytearray that grows with each chunk leaves a heap full of all sizes, which fits nobody and is not given back;
so memory grows in big steps and serves one part after the other. And aiohttp hands a body to the transport
whole, which keeps a copy (TLS another) until the socket has taken it; so it is written piece by piece. A file
in its place would be read in threads, and would have botocore ask for `100 Continue` first.
"""

from __future__ import annotations

from typing import Any

from aiohttp import Payload, payload_type
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Order

PIECE = 131_072
"""Octets that wait for the socket at a time, about."""

GROWTH = 4
"""Times the memory that was too little."""


class Part(bytearray):
    """To botocore octets like any others, which it hashes where they are; to aiohttp a payload of its own."""


@payload_type(Part, order=Order.try_first)
class _PartPayload(Payload):
    _autoclose = True  # there is nothing to close

    def __init__(self, value: Part, *args: Any, **kwargs: Any) -> None:
        super().__init__(value, *args, **kwargs)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        octets: Part = self._value
        return octets.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        octets = memoryview(self._value)
        for start in range(0, len(octets), PIECE):
            # `write` waits as soon as the transport has more than it should.
            await writer.write(octets[start : start + PIECE])


class PartBuffer:
    """Room for up to `limit` octets, to be filled again and again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._memory = Part()
        self._filled = 0

    def take(self, octets: memoryview) -> memoryview:
        """Take what there is room for; the rest comes back."""
        start, taken = self._filled, octets[: self._limit - self._filled]
        self._filled += len(taken)
        if self._filled > len(self._memory):
            memory = Part(min(max(self._filled, GROWTH * len(self._memory)), self._limit))
            memory[:start] = memoryview(self._memory)[:start]
            self._memory = memory
        self._memory[start : self._filled] = taken
        return octets[len(taken) :]

    def part(self) -> Part:
        """What was taken since the last part. It is good until more is taken."""
        try:
            del self._memory[self._filled :]
        except BufferError:  # a try that failed left a piece with its transport
            self._memory = Part(memoryview(self._memory)[: self._filled])
        self._filled = 0
        return self._memory
