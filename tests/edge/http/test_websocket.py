"""Twin of edge.http.websocket: frames found in any cut of the octets, and the Close frame (RFC 6455)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from edge.http.websocket import GOING_AWAY, Frames, close_frame


def frame(length: int, masked: bool = False, opcode: Opcode = Opcode.BINARY) -> bytes:
    return Frame(opcode, bytes(length)).serialize(mask=masked)


SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_frame_ends_where_it_ends_and_nowhere_before(size, masked):
    octets = frame(size, masked)
    for cut in {1, 2, 3, 4, 5, 9, 10, 13, 14, 15, len(octets) - 1}:
        frames = Frames()
        frames.passed(memoryview(octets[:cut]))
        assert frames.between == (cut >= len(octets)), (cut, frames)
        frames.passed(memoryview(octets[cut:]))
        assert frames.between


def test_octet_by_octet_is_the_same():
    octets = b"".join(frame(size, masked) for size in (0, 3, 126, 200) for masked in (True, False))
    ends, at = set(), 0
    for size in (0, 3, 126, 200):
        for masked in (True, False):
            at += len(frame(size, masked))
            ends.add(at)
    frames = Frames()
    for number in range(len(octets)):
        frames.passed(memoryview(octets[number : number + 1]))
        assert frames.between == (number + 1 in ends)


def cut_up(octets: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    return [octets[start:end] for start, end in itertools.pairwise(at)]


some_frames = st.lists(st.tuples(st.sampled_from([0, 1, 7, 125, 126, 300]), st.booleans()), min_size=1, max_size=6)


@given(some_frames, st.lists(st.integers(0, 5_000), max_size=12))
def test_up_to_end_stops_behind_the_frame_under_way_however_it_was_cut(shapes, cuts):
    whole = [frame(*shape) for shape in shapes]
    octets = b"".join(whole)
    ends = [sum(map(len, whole[: number + 1])) for number in range(len(whole))]
    pieces = cut_up(octets, cuts)
    for asked_at in range(len(pieces)):
        frames, at = Frames(), 0
        for piece in pieces[:asked_at]:
            frames.passed(memoryview(piece))
            at += len(piece)
        want = 0 if at in (0, *ends) else min(end for end in ends if end > at) - at
        for piece in pieces[asked_at:]:
            got = frames.up_to_end(memoryview(piece))
            assert got == min(want, len(piece))
            want -= got
            if not want:
                break
        assert frames.between


def test_a_length_of_63_bits_is_believed():
    frames = Frames()
    frames.passed(memoryview(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xffx"))
    assert not frames.between
    assert repr(frames) == f"<Frames inside, {2**63 - 2} octets left>"
    assert repr(Frames()) == "<Frames between>"


@pytest.mark.parametrize("mask", [b"", b"\x01\x80\xff\x00"])
def test_a_close_frame_is_read_as_one(mask):
    """Control frames have a payload length of 125 bytes or less; those of a client are masked."""
    reader = StreamReader()
    reader.feed_data(close_frame(GOING_AWAY, mask))
    reading = Frame.parse(reader.read_exact, mask=bool(mask))
    with pytest.raises(StopIteration) as done:
        next(reading)
    read: Frame = done.value.value
    assert (read.opcode, Close.parse(read.data)) == (Opcode.CLOSE, Close(1001, ""))
    assert reader.buffer == b""
