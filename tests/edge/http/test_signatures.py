"""Signed requests (edge.http.signatures): RFC 9421, against its own vectors and a signer that shares no code."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http import signatures
from edge.http.parser import SectionMemo, parse_request_head
from edge.http.signatures import Claim, SignatureError
from edge.settings import Limits
from tests.edge.fakes import NOW, a_head, a_section
from tests.edge.signing import KEY_ID, SECRET, Signer

HOST = "demo.example.com"


def signed_head(method="POST", target="/orders?x=1&x=%20", body=b"{}", fields=(("Content-Type", "a/b"),), **changed):
    sent = Signer().sign(method, target, HOST, body, fields, at=NOW, **changed)
    return a_head(method, target, sent, host=HOST, content_length=len(body or b""))


def believed(head, secrets=(SECRET,), scheme=b"http"):
    claim = signatures.read(head.section)
    signatures.check_covered(claim, head)
    base = signatures.base(claim.components, claim.parameters, head, scheme)
    return signatures.is_made_by(base, claim.mac, secrets)


# --- The vectors of the RFC -----------------------------------------------------------------------------------------

SHARED = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
B_2 = (
    b"POST /foo?param=Value&Pet=dog HTTP/1.1\r\nHost: example.com\r\nDate: Tue, 20 Apr 2021 02:07:55 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Digest: sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWn"
    b"rIiYllu7BNNyealdVLvRwEmTHWXvJwew==:\r\nContent-Length: 18\r\n\r\n"
)


def test_the_vector_of_appendix_b_2_5_comes_out():
    """RFC 9421 appendix B.2.5: signing a request using hmac-sha256."""
    head, _ = parse_request_head(B_2, SectionMemo(), Limits())
    parameters = b'("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    base = signatures.base(("date", "@authority", "content-type"), parameters, head, b"https")
    assert base == (
        b'"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@authority": example.com\n"content-type": application/json\n'
        b'"@signature-params": ' + parameters
    )
    assert signatures.is_made_by(base, base64.b64decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="), [SHARED])
    assert not signatures.is_made_by(base, base64.b64decode("qxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="), [SHARED])


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/path?param=value&foo=bar&baz=bat%2Dman", b"/path", b"?param=value&foo=bar&baz=bat%2Dman"),
        ("/path?queryString", b"/path", b"?queryString"),
        ("/path", b"/path", b"?"),
        ("/path?", b"/path", b"?"),
        ("/%7Esmith/../home.html", b"/%7Esmith/../home.html", b"?"),
        ("http://www.example.com", b"/", b"?"),
        ("http://www.example.com?a", b"/", b"?a"),
    ],
)
def test_path_and_query_are_taken_as_they_came(target, path, query):
    """RFC 9421 sections 2.2.6 and 2.2.7, with their examples: before any decoding, "?" alone where there is none."""
    raw = b"GET %b HTTP/1.1\r\nHost: www.example.com\r\n\r\n" % target.encode()
    head, _ = parse_request_head(raw, SectionMemo(), Limits())
    base = signatures.base(("@path", "@query"), b"()", head, b"http")
    assert base == b'"@path": %b\n"@query": %b\n"@signature-params": ()' % (path, query)


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("WWW.Example.COM", b"https", b"www.example.com"),
        ("www.example.com:443", b"https", b"www.example.com"),
        ("www.example.com:80", b"http", b"www.example.com"),
        ("www.example.com:80", b"https", b"www.example.com:80"),
        ("www.example.com:8080", b"http", b"www.example.com:8080"),
        ("www.example.com:", b"http", b"www.example.com"),
        ("[::80]:80", b"http", b"[::80]"),
    ],
)
def test_the_authority_is_in_lower_case_without_a_default_port(host, scheme, expected):
    """RFC 9421 section 2.2.3: "the hostname is normalized to lowercase, and the default port is omitted"."""
    assert signatures.authority(a_head(host=host), scheme) == expected


def test_of_an_absolute_form_target_the_authority_is_the_targets():
    """RFC 9112 section 3.2.2: "MUST ignore the received Host header field (if any)"."""
    for raw in (
        b"GET http://Demo.Example.com:80/x HTTP/1.1\r\nHost: demo.example.com\r\n\r\n",
        b"GET HTTP://demo.example.com/x HTTP/1.0\r\n\r\n",
    ):
        head, _ = parse_request_head(raw, SectionMemo(), Limits())
        assert signatures.authority(head, b"http") == b"demo.example.com"


# --- What another signer made ---------------------------------------------------------------------------------------


def test_a_request_signed_by_another_implementation_is_believed():
    head = signed_head()
    assert believed(head)
    assert not believed(head, (bytes(32),))
    assert believed(head, (bytes(32), SECRET)) and believed(head, (SECRET, bytes(32)))


def test_a_claim_is_what_was_said():
    claim = signatures.read(signed_head(expires=int(NOW) + 60, nonce='"0123456789abcdef"').section)
    assert claim == Claim(
        ("@method", "@authority", "@path", "@query", "content-digest", "content-type"), claim.parameters,
        int(NOW), int(NOW) + 60, "0123456789abcdef", KEY_ID, claim.mac,
    )  # fmt: skip


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=12)


@given(
    st.sampled_from(["GET", "POST", "DELETE", "BREW"]), visible, st.none() | visible, st.none() | st.binary(max_size=8),
    st.permutations(["@method", "@authority", "@path", "@query", "content-digest", "content-type", "date"]),
)  # fmt: skip
def test_whatever_is_signed_in_whatever_order_is_believed_and_nothing_else(method, path, query, body, order):
    target = "/" + path + ("" if query is None else "?" + query)
    absent = () if body is not None else ("content-digest",)
    fields = [("Content-Type", "a/b"), ("Date", "today")]
    head = signed_head(method, target, body, fields, components=order, without=absent)
    assert believed(head)
    for other in (
        signed_head("X" + method, target, body, fields, components=order, without=absent),
        signed_head(method, target + "&", body, fields, components=order, without=absent),
        signed_head(method, "/x" + target, body, fields, components=order, without=absent),
        signed_head(method, target, body, [("Content-Type", "a/c"), fields[1]], components=order, without=absent),
    ):
        other.section = a_section([
            *((n.decode(), v.decode()) for n, v in other.section.fields if n.lower() not in signatures.FIELDS),
            *((n.decode(), v.decode()) for n, v in head.section.fields if n.lower() in signatures.FIELDS),
        ])  # fmt: skip
        assert not believed(other)


def test_how_the_fields_are_spaced_does_not_matter():
    """RFC 9421 section 3.2: the signature parameters are serialised anew, by the strict rules of section 2.3."""
    head = signed_head()
    spaced = []
    for name, value in head.section.fields:
        text = value.decode()
        if name == b"Signature-Input":
            text = "  " + text.replace('" "', '"   "').replace(";", ";  ").replace("(", "( ").replace(")", " )")
        spaced.append((name.decode(), text))
    head.section = a_section(spaced)
    assert believed(head)


def test_signatures_for_other_verifiers_are_not_in_the_way():
    """RFC 9421 section 3.2: if more than one signature is present, which one to process is the verifier's policy."""
    head = signed_head()
    others = {
        b"Signature-Input": 'proxy=("x-unknown";sf "@status");tag="other";created=1, ',
        b"Signature": "proxy=:YQ==:, ",
    }
    head.section = a_section([(n.decode(), others.get(n, "") + v.decode()) for n, v in head.section.fields])
    assert believed(head)


# --- What is refused ------------------------------------------------------------------------------------------------


def refusal(head):
    with pytest.raises(SignatureError) as caught:
        believed(head)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"tag": '"other"'}, "tag"),
        ({"tag": None}, "tag"),
        ({"tag": "vantageedge-s2s"}, "tag"),
        ({"alg": '"rsa-pss-sha512"'}, "algorithm"),
        ({"alg": '"none"'}, "algorithm"),
        ({"alg": "hmac-sha256"}, "algorithm"),
        ({"alg": "?1"}, "algorithm"),
        ({"created": None}, "created"),
        ({"created": '"1800000000"'}, "created"),
        ({"created": "?1"}, "created"),
        ({"expires": "?1"}, "expires"),
        ({"nonce": None}, "nonce"),
        ({"nonce": '"short"'}, "nonce"),
        ({"nonce": '"0123456789abcde!"'}, "nonce"),
        ({"nonce": f'"{"a" * 65}"'}, "nonce"),
        ({"nonce": ":MDEyMzQ1Njc4OWFiY2RlZg==:"}, "nonce"),
        ({"nonce": "a" * 20}, "nonce"),
        ({"keyid": None}, "keyid"),
        ({"keyid": '""'}, "keyid"),
        ({"keyid": '"a b"'}, "keyid"),
        ({"keyid": f'"{"a" * 65}"'}, "keyid"),
        ({"more": "1"}, "means nothing"),
        ({"label": "sig1"}, "missing or no list"),
    ],
)
def test_parameters_that_are_not_ours_are_refused(changed, word):
    assert word in refusal(signed_head(**changed))


def test_alg_may_be_left_out():
    """RFC 9421 section 3.2: the algorithm is determined by the key; where it is said as well, they must agree."""
    assert believed(signed_head(alg=None))


@pytest.mark.parametrize("name", ["@method", "@authority", "@path", "@query", "content-digest", "content-type"])
def test_less_than_the_server_demands_is_refused(name):
    assert refusal(signed_head(without=[name])) == f"{name} is not covered"


def test_without_a_body_no_digest_is_demanded_and_without_a_type_none():
    assert believed(signed_head("GET", body=None))
    assert believed(signed_head("GET", body=None, fields=()))
    assert believed(signed_head(fields=()))
    bodied = a_head("GET", "/", Signer().sign("GET", "/", HOST, at=NOW), host=HOST, content_length=None, chunked=True)
    assert refusal(bodied) == "content-digest is not covered"


DEMANDED = ("@method", "@authority", "@path", "@query", "content-digest", "content-type")


@pytest.mark.parametrize(
    "more", ["@status", "@target-uri", "@scheme", "@request-target", "@query-param", "@signature-params", "connection",
             "x-forwarded-for", "cookie", "te", "Date", "signature", ""],
)  # fmt: skip
def test_what_may_be_covered_besides_is_a_list(more):
    assert "may be covered" in refusal(signed_head(components=[*DEMANDED, more]))


@pytest.mark.parametrize("more", ['"date";sf', '"date";key="a"', '"@method";req', "date", "1", ":YQ==:"])
def test_components_with_parameters_or_that_are_no_strings_are_refused(more):
    listed = " ".join(f'"{name}"' for name in DEMANDED)
    head = signed_head(fields=[("Content-Type", "a/b"), ("Date", "x")])
    head.section = a_section([
        (n.decode(), v.decode().replace(f"({listed})", f"({listed} {more})")) for n, v in head.section.fields
    ])  # fmt: skip
    assert refusal(head) == "a component is not a plain name"


def test_a_component_that_comes_twice_is_refused():
    """RFC 9421 section 2: "Each component identifier ... MUST occur only once"."""
    assert "twice" in refusal(signed_head(components=[*DEMANDED, "@path"]))


def test_a_covered_field_comes_exactly_once():
    assert refusal(signed_head(components=[*DEMANDED, "date"])) == "date is missing"
    fields = [("Content-Type", "a/b"), ("Date", "x"), ("Date", "y")]
    assert refusal(signed_head(fields=fields, components=[*DEMANDED, "date"])) == "date is sent more than once"
    assert "content-type is sent more" in refusal(
        signed_head(fields=[("Content-Type", "a/b"), ("Content-Type", "a/c")])
    )


def test_an_empty_field_is_covered_too():
    assert believed(signed_head(fields=[("Content-Type", ""), ("Accept", "")], components=[*DEMANDED, "accept"]))


def with_fields(**replaced):
    head = signed_head()
    named = {name.replace("_", "-").encode(): value for name, value in replaced.items()}
    kept = [(name.decode(), named.get(name, value.decode())) for name, value in head.section.fields]
    head.section = a_section([(name, value) for name, value in kept if value is not None])
    return head


@pytest.mark.parametrize(
    ("replaced", "word"),
    [
        ({"Signature": None}, "signature is missing"),
        ({"Signature_Input": None}, "signature-input is missing"),
        ({"Signature": ""}, "missing or no byte sequence"),
        ({"Signature": "ve=1"}, "missing or no byte sequence"),
        ({"Signature": "ve"}, "missing or no byte sequence"),
        ({"Signature": "ve=(:YQ==:)"}, "missing or no byte sequence"),
        ({"Signature": "other=:YQ==:"}, "missing or no byte sequence"),
        ({"Signature": "ve=:YQ==:"}, "length"),
        ({"Signature": f"ve=:{'A' * 43}=:;x=1"}, "parameters"),
        ({"Signature": "ve=:*:"}, "malformed"),
        ({"Signature": "ve=:YQ==:, ve=:YQ==:"}, "malformed"),
        ({"Signature_Input": 've="x"'}, "no list"),
        ({"Signature_Input": "ve"}, "no list"),
        ({"Signature_Input": "ve=("}, "malformed"),
        ({"Signature_Input": "ve=()" + " " * 5_000 + ";x"}, "malformed"),
    ],
)
def test_fields_that_say_something_else_are_refused(replaced, word):
    assert word in refusal(with_fields(**replaced))


def test_a_field_that_is_sent_twice_is_refused():
    head = signed_head()
    head.section = a_section([*((n.decode(), v.decode()) for n, v in head.section.fields), ("Signature", "x=:YQ==:")])
    assert refusal(head) == "signature is sent more than once"


@pytest.mark.parametrize(
    ("said", "now", "word"),
    [
        ({}, 0, None),
        ({}, 60, None),
        ({}, -60, None),
        ({}, 60.1, "60 s ago"),
        ({}, -60.1, "-60 s ago"),
        ({"created": 999_999_999_999_999}, 0, "s ago"),
        ({"expires": int(NOW) + 10}, 10, None),
        ({"expires": int(NOW) + 10}, 10.1, "it expired"),
        ({"expires": int(NOW) + 300}, 0, None),
        ({"expires": int(NOW) + 301}, 0, "too late"),
        ({"expires": int(NOW)}, 0, None),
        ({"expires": int(NOW) - 1}, -5, "too late"),
    ],
)
def test_time_is_judged_from_both_sides(said, now, word):
    claim = signatures.read(signed_head(**said).section)
    if word is None:
        signatures.check_time(claim, NOW + now)
        return
    with pytest.raises(SignatureError, match=word):
        signatures.check_time(claim, NOW + now)


# --- Whether it is signed at all ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], False),
        (["ve=()"], True),
        (["sig1=();keyid=\"x\""], False),
        (["sig1=(), ve=()"], True),
        (["sig1=(),\tve"], True),
        (["sig1=()", "ve=()"], True),
        (["ve2=(), vex=(), ve-x=(), ve.x=()"], False),
        (["x;nonce=\", ve=()\""], False),
        (["x;nonce=\"\\\", ve=()\""], False),
        (["ve*=()"], False),
        (["ve="], True),
        (["x=\"unterminated, ve=()"], False),
    ],
)  # fmt: skip
def test_a_request_is_signed_when_a_member_has_our_label(lines, expected):
    section = a_section([("Signature-Input", line) for line in lines])
    assert signatures.is_signed(section) is expected


@given(st.lists(st.text('ve=()", \\;x1:*', max_size=40), max_size=2), st.text('ve=:AQ", \\;x1', max_size=40))
def test_any_fields_are_read_or_refused_and_nothing_else(inputs, signature):
    section = a_section([*(("Signature-Input", line) for line in inputs), ("Signature", signature)])
    signatures.is_signed(section)
    try:
        assert isinstance(signatures.read(section), Claim)
    except SignatureError:
        pass


@pytest.mark.parametrize("piece", ['"', '\\"', ",", ", ve2", "\\", 'x="\\'])
def test_looking_for_the_label_costs_no_more_than_a_moment(piece):
    began = time.monotonic()
    assert not signatures.is_signed(a_section([("Signature-Input", (piece * 65_536)[:65_536])]))
    assert time.monotonic() - began < 0.5
