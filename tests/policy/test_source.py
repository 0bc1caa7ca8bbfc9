from __future__ import annotations

import pytest

from policy.problems import SHOWN_MAX, Problem, Report, quote, render
from policy.source import DEPTH_MAX, SIZE_MAX, ListNode, MapNode, ScalarNode, compose, hidden_spans, locate


def composed(text):
    report = Report(text)
    return compose(report), report


def problems(text):
    root, report = composed(text)
    return [(p.code, p.line, p.col) for p in report.finish(hidden_spans(text, root))]


def scalar(value):
    root, _ = composed(f"a: {value}\n")
    return locate(root, "a")


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("25.00", "number"),
        ("1e3", "number"),
        (".5", "number"),
        ("-1", "number"),
        ("true", "boolean"),
        ("false", "boolean"),
        ("null", "nothing"),
        ("~", "nothing"),
        ("", "nothing"),
        ("no", "text"),
        ("on", "text"),
        ("True", "text"),
        ("0x1F", "text"),
        ("1_000", "text"),
        ("1:30", "text"),
        (".inf", "text"),
        ("2027-01-01", "text"),
        ("'true'", "text"),
        ('"25.00"', "text"),
        ("٣", "text"),
    ],
)
def test_scalars_keep_their_text_and_only_true_and_false_are_booleans(written, kind):
    node = scalar(written)
    assert (node.value, node.kind) == (written.strip("'\""), kind)


def test_nodes_know_their_places():
    text = "é: 1\nlist:\n  - {x: 'ü', y: [2]}\n"
    root, report = composed(text)
    assert isinstance(root, MapNode)
    assert isinstance(locate(root, "list"), ListNode)
    x = locate(root, "list", 0, "x")
    assert isinstance(x, ScalarNode)
    assert text[x.start : x.end] == "'ü'"
    assert report.line_col(x.start) == "3:9"
    assert report.line_col(locate(root, "list", 0, "y", 0).start) == "3:18"


def test_locate_answers_the_nearest_that_is_written():
    root, _ = composed("a: {b: 1}\n")
    assert locate(root, "a", "missing", 3) is locate(root, "a")


def test_hazard_33_a_file_above_a_mebibyte_is_refused_where_it_passes_it():
    line = "# " + "x" * 997 + "\n"
    text = "version: 1\n" + line * (10 * SIZE_MAX // len(line))
    nth, rest = divmod(SIZE_MAX - len("version: 1\n"), len(line))
    assert problems(text) == [("too-large", nth + 2, rest + 1)]


def test_hazard_33_size_is_counted_in_bytes():
    assert problems("# " + "é" * (SIZE_MAX // 2)) == [("too-large", 1, SIZE_MAX // 2 + 2)]
    assert problems("# " + "e" * (SIZE_MAX // 2)) == [("empty", 1, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffa: 1\n", ("bom", 1, 1)),
        ("a: 1\n b:\x00\n", ("control-character", 2, 4)),
        ("a: \x85\n", ("control-character", 1, 4)),
        ("a: \ud800\n", ("control-character", 1, 4)),
        ("a: \ufffe\n", ("control-character", 1, 4)),
        ("a: 1\rb: 2\n", ("control-character", 1, 5)),
        ("a:\n\tb: 1\n", ("tab", 2, 1)),
        ("a: !!binary aGk=\n", ("tag", 1, 4)),
        ("a: ! x\n", ("tag", 1, 4)),
        ("a: &x 1\n", ("anchor", 1, 4)),
        ("a: *x\n", ("alias", 1, 4)),
        ("a: 1\n---\nb: 2\n", ("documents", 2, 1)),
        ("a: 1\na: 2\n", ("duplicate-key", 2, 1)),
        ("? {b: 1}\n: 2\n", ("key-type", 1, 3)),
        ("a: " + "[" * (DEPTH_MAX + 1), ("too-deep", 1, DEPTH_MAX + 3)),
        ("[" * 500_000, ("too-deep", 1, DEPTH_MAX + 1)),
        ("a: [1\n", ("syntax", 2, 1)),
        ("", ("empty", 1, 1)),
        ("---\n...\n---\n", ("documents", 3, 1)),
    ],
)
def test_hazard_33_each_is_an_error_with_its_place(text, expected):
    assert problems(text) == [expected]


def test_hazard_33_an_anchor_bomb_is_never_expanded():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 100)]
    root, _ = composed("\n".join(lines))
    assert len(locate(root, "a99").items) == 10
    assert all(isinstance(item, ScalarNode) for item in locate(root, "a99").items)


def test_windows_line_ends_keep_their_places_and_are_not_shown():
    text = "a: 1\r\na: 2\r\n"
    root, report = composed(text)
    (problem,) = report.finish(hidden_spans(text, root))
    assert (problem.line, problem.col, problem.excerpt) == (2, 1, "***")


def test_nothing_is_shown_that_was_not_read():
    text = "a: secret-1\nb: [secret-2]\nc: {secret-3: secret-4}\n"
    root, report = composed(text)
    for node in root.values.values():
        report.note(node.start, "text", "x")
    shown = render(report.finish(hidden_spans(text, root)), "f")
    assert "secret" not in shown
    assert shown.count("***") == 3


def test_substitutions_are_shown_as_written_but_for_their_defaults():
    text = 'a: "Bearer ${env:NAME:-secret} and ${file:/run/x}"\n'
    root, report = composed(text)
    root.shown = root.keys["a"].shown = True
    report.note(text.index("${file"), "text", "x")
    (problem,) = report.finish(hidden_spans(text, root))
    assert problem.excerpt == 'a: "***${env:NAME:-***}***${file:/run/x}"'
    assert problem.excerpt[problem.caret :].startswith("${file")


def test_an_agent_key_is_never_shown_wherever_it_stands():
    text = "# alk_abc\na: 1\n"
    report = Report(text)
    report.note(4, "text", "x")
    (problem,) = report.finish([])
    assert (problem.excerpt, problem.caret) == ("# ***", 2)
    assert quote("see alk_abc, please") == "'see alk_***, please'"


def test_a_long_line_is_cut_around_the_caret():
    text = "a: " + "x" * 5000 + "HERE" + "y" * 5000
    report = Report(text)
    report.note(text.index("HERE"), "text", "x")
    (problem,) = report.finish([])
    assert len(problem.excerpt) < 200
    assert problem.excerpt[problem.caret :].startswith("HERE")
    assert problem.excerpt.startswith("…x")
    assert problem.excerpt.endswith("y…")


def test_every_problem_is_kept_in_order_and_once_and_the_first_hundred_are_rendered():
    report = Report("\n" * 300)
    for line in reversed(range(150)):
        report.note(line, "text", "x")
        report.note(line, "text", "x")
    found = report.finish([])
    assert [problem.line for problem in found] == list(range(1, 151))
    assert render(found, "f").endswith("and 50 more problems")
    assert render(found, "f").count("[text]") == SHOWN_MAX


def test_the_three_lines_of_a_problem():
    problem = Problem(12, 5, "unknown-key", "unknown key 'a'", excerpt="    a: 1", caret=4)
    assert render([problem], "p.yaml") == (
        "p.yaml:12:5: unknown key 'a' [unknown-key]\n   12 |     a: 1\n      |     ^"
    )


def test_a_hint_costs_nothing_for_words_that_are_no_slip():
    report = Report("")
    assert report.hint("pric", ["price", "agent"]) == "; did you mean 'price'?"
    assert report.hint("x" * 1000, ["price"], listed=False) == ""
    assert report.hint("zzz", ["price", "agent"]) == "; expected one of price, agent"
    for _ in range(50):
        report.note(0, "text", "x")
    assert report.hint("pric", ["price"], listed=False) == ""
