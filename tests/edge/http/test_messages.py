"""Values show themselves in the words of the protocol."""

from edge.http.messages import FieldSection, Reply, RequestHead, ResponseHead

SECTION = FieldSection(b"A: 1\r\nA: 2\r\n", ((b"A", b"1"), (b"A", b"2")), {b"a": (b"1", b"2")})


class Streaming:
    length = None

    def read(self) -> bytes:
        return b""

    def close(self) -> None:
        pass


def test_repeated_fields_are_one_list():
    assert SECTION.get(b"a") == b"1, 2"
    assert SECTION.get(b"b") is None
    assert FieldSection(b"", (), {b"a": (b"1",)}).get(b"a") == b"1"


def test_heads_and_replies_show_what_they_are():
    request = RequestHead(b"GET", b"/x", b"/x", None, 11, SECTION, b"h", 0, False, True, False)
    response = ResponseHead(200, b"OK", 11, SECTION, 2, False, True, 2)
    assert repr(SECTION) == "<FieldSection 2 fields, 12 bytes>"
    assert repr(request) == "<RequestHead b'GET' b'h' b'/x'>"
    assert repr(response) == "<ResponseHead 200 <FieldSection 2 fields, 12 bytes>>"
    assert repr(Reply(200, b"OK", b"", b"ab")) == "<Reply 200 body=2>"
    assert repr(Reply(200, b"OK", b"", Streaming())) == "<Reply 200 body=streaming>"


def test_a_body_is_there_when_it_has_a_length_or_is_chunked():
    def has_body(length, chunked):
        return RequestHead(b"GET", b"/", b"/", None, 11, SECTION, b"h", length, chunked, True, False).has_body

    assert [has_body(0, False), has_body(3, False), has_body(None, True)] == [False, True, True]
