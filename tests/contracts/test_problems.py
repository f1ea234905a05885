from pathlib import Path

from contracts.problems import PROBLEMS, problem_body

DOCS = Path(__file__).parents[2] / "docs" / "problems"


def test_a_problem_body_has_the_members_of_rfc_9457_and_ours():
    body = problem_body(PROBLEMS["route-unknown"], "GET /x", "id-1", {"hint": "see routes"})
    assert body == {
        "type": "urn:vantageedge:problem:route-unknown",
        "title": "No route matches this path",
        "status": 404,
        "detail": "GET /x",
        "code": "route-unknown",
        "at_fault": "client",
        "request_id": "id-1",
        "hint": "see routes",
    }


def test_a_registered_type_is_used_where_there_is_one():
    body = problem_body(PROBLEMS["quota-exceeded"], "", "id-1")
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"


def test_every_problem_has_its_page_and_every_page_its_problem():
    pages = {path.stem: path.read_text() for path in DOCS.glob("*.md") if path.stem != "README"}
    assert set(pages) == set(PROBLEMS)
    for slug, problem in PROBLEMS.items():
        assert pages[slug].startswith(f"# {problem.title}\n"), slug
        assert f"Status {problem.status}" in pages[slug], slug


def test_the_status_says_whose_fault_it_is():
    for problem in PROBLEMS.values():
        if problem.at_fault in ("origin", "gateway"):
            assert problem.status >= 500, problem.slug
