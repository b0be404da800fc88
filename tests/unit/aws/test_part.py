"""Parts: octets go in once and come out as they were, whatever happens to the memory in between."""

from __future__ import annotations

import os
from typing import cast

import pytest
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import PAYLOAD_REGISTRY
from hypothesis import given
from hypothesis import strategies as st

from empath.aws.part import PIECE, Part, PartBuffer


class Pieces:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def write(self, octets: memoryview) -> None:
        self.written.append(bytes(octets))


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_parts_are_full_but_the_last_and_together_they_are_what_was_taken(
    chunks: list[bytes], limit: int
) -> None:
    buffer, parts = PartBuffer(limit), []
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest := buffer.take(rest):
            parts.append(bytes(buffer.part()))
    assert {len(part) for part in parts} <= {limit}
    last = bytes(buffer.part())
    assert len(last) <= limit
    assert b"".join([*parts, last]) == b"".join(chunks)


def test_a_part_can_be_had_while_somebody_still_holds_a_piece_of_the_one_before() -> None:
    buffer = PartBuffer(10)
    buffer.take(memoryview(b"0123456789"))
    held = memoryview(buffer.part())[2:4]
    buffer.take(memoryview(b"abc"))
    assert buffer.part() == b"abc"
    held.release()


@pytest.mark.parametrize("size", [PIECE + 1, 3 * PIECE])
async def test_a_part_is_written_whole_and_in_pieces_each_time_it_is_tried(size: int) -> None:
    part = Part(os.urandom(size))
    for _ in range(2):
        payload, writer = PAYLOAD_REGISTRY.get(part), Pieces()
        assert payload.size == size
        await payload.write_with_length(cast(AbstractStreamWriter, writer), size)
        assert max(map(len, writer.written)) <= PIECE
        assert b"".join(writer.written) == bytes(part)
