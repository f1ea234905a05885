"""A result becomes a table by itself; a row without a figure says why."""

import copy
import json

import pytest

from bench import flame, result, table
from bench.__main__ import _options, quiet_only
from bench.rows import Row, budget
from bench.stats import spread

COST = {"user_us": 10.0, "system_us": 10.0, "rate": 1.0}


def content():
    rows = [
        Row(budget("full-nginx"), spread([2.0, 3.0, 2.6])),
        Row(budget("workers"), spread([1.8]), "few cores", judged=False),
        Row(budget("idle"), None, "only 1024 descriptors | here"),
    ]
    return {
        "schema": result.SCHEMA, "at": "2026-11-24T06:00:00+00:00", "commit": "abc1234", "changed": False,
        "machine": {"cores": 2, "cpu": "Some CPU", "kernel": "6.1", "machine": "x86_64", "python": "3.11.7"},
        "method": {"seconds": 2, "rounds": 3, "origin": "nginx", "by_others": 0.02},
        "versions": {"nginx": "1.22.1", "Envoy": "1.40.0"},
        "rows": [result.row_values(row) for row in rows],
        "absent": ["varnish: varnishd is not installed (apt-get install varnish)"],
        "costs": [
            {"gateway": "VantageEdge", "what": "full chain", "rounds": [
                {"user_us": 30.0, "system_us": 10.0, "rate": 1.0}, {"user_us": 60.0, "system_us": 60.0, "rate": 1.0}]},
            {"gateway": "nginx", "what": "plain proxy", "rounds": [
                COST, {"user_us": 20.0, "system_us": 20.0, "rate": 1.0}]},
        ],
    }  # fmt: skip


def test_every_row_stands_in_the_table_with_its_verdict_or_its_reason():
    lines = {line[0]: line for line in table.row_lines(content())}
    judged = lines["full chain vs nginx, plain proxy"]
    assert judged[1:6] == ("2.60 ×", "2.00–3.00", "≤ 4 ×", "≤ 2.5 ×", "within budget")
    assert lines["two workers vs one on two free cores, requests/s"][3:6] == ("≥ 1.7 ×", "≥ 1.9 ×", "not judged")
    assert lines["idle keep-alive connection, 5,000 of them"][1] == "—"
    assert "only 1024 descriptors \\| here" in table.markdown(content())


def test_costs_are_beside_nginx_of_the_same_round():
    ours = next(line for line in table.cost_lines(content()) if line[1] == "VantageEdge")
    assert ours == ("full chain", "VantageEdge", "80.0", "40.0–120", "45.0", "35.0", "2.50")


def test_what_was_absent_is_said_in_both_forms():
    assert "varnishd is not installed" in table.markdown(content())
    assert "absent: varnish: varnishd is not installed" in table.terminal(content())


def test_a_busy_machine_is_said():
    busy = content()
    assert "other work took 2% of the cores" in table.markdown(busy)
    assert "proves little" not in table.terminal(busy)
    busy["method"]["by_others"] = 0.3
    assert "other work took 30% of the cores, so this run proves little" in table.terminal(busy)


def test_what_was_timed_beside_other_work_is_not_judged():
    row = Row(budget("slow-heads"), spread([3.0]), "a note")
    assert quiet_only([row], 0.04) == [row]
    (busy,) = quiet_only([row], 0.3)
    assert busy.word == "not judged"
    assert busy.note == "a note; others took 30% of the cores"
    without = Row(budget("slow-heads"), None, "why")
    assert quiet_only([without], 0.3) == [without]


def test_two_results_are_compared_row_by_row_and_overlap_is_said():
    before, after = content(), content()
    after["rows"][0]["value"] = {"median": 1.3, "low": 1.2, "high": 1.9, "rounds": 3}
    lines = table.compared(before, after).splitlines()
    assert "2.60 →     1.30 ×" in lines[1]
    assert "-50%" in lines[1]
    assert "overlap" not in lines[1]
    assert "overlap" in lines[2]
    assert len(lines) == 3  # a row without a figure is not compared


def test_only_what_is_between_the_markers_is_rewritten():
    document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.written(document, "new")
    assert once == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    assert table.written(once, "new") == once
    for broken in ("no markers", table.BEGIN, table.END + table.BEGIN, document + document):
        with pytest.raises(ValueError, match="markers"):
            table.written(broken, "new")


def test_the_document_has_its_markers():
    table.written(table.DOCUMENT.read_text(), "new")
    table.written(table.DOCUMENT.read_text(), "new", flame._BEGIN, flame._END)


def test_a_result_of_another_schema_is_refused(tmp_path):
    path = result.save(content(), tmp_path / "run.json")
    assert result.load(path) == json.loads(json.dumps(content()))
    old = copy.deepcopy(content()) | {"schema": 1}
    with pytest.raises(ValueError, match="schema 1 is not 2"):
        result.load(result.save(old, tmp_path / "old.json"))


@pytest.mark.parametrize(("value", "text"), [(0.8504, "0.85"), (12.34, "12.3"), (123.4, "123"), (-5.0, "-5.00")])
def test_a_figure_has_three_digits_that_matter(value, text):
    assert table.number(value) == text


def test_a_gateway_or_row_that_does_not_exist_is_refused(capsys):
    assert _options(["--only", "edge,nginx", "--rows", "cost,idle"]).rounds == 7
    for wrong in (["--only", "apache"], ["--rows", "speed"], ["--rounds", "0"]):
        with pytest.raises(SystemExit):
            _options(wrong)
    assert "unknown: apache" in capsys.readouterr().err
