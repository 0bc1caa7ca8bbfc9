from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.terminal.table import Column, Table, _wide

COLUMNS = (Column("NAME", least=4), Column("COST", "money"), Column("NOTE", least=5, spare=2), Column("ID", spare=1))
CELLS = st.text(max_size=30)
ROWS = st.lists(st.tuples(CELLS, st.integers(0, 10**6).map(lambda cents: f"${cents / 100}"), CELLS, CELLS), max_size=5)


@given(ROWS, st.integers(25, 120))
def test_each_line_fits_and_the_money_has_its_points_under_each_other(rows, width):
    lines = list(Table(COLUMNS, width, color=False).lines(rows))
    assert len(lines) == len(rows) + 1
    assert all(_wide(line) <= width for line in lines)
    assert all("\n" not in line and "\x1b" not in line for line in lines)


def test_what_is_cut_and_what_is_left_out():
    rows = [("researcher", "$1.5", "budget_exceeded", "act_1"), ("b", "$10", "", "act_22")]

    def drawn(width):
        return list(Table(COLUMNS, width, color=False).lines(rows))

    assert drawn(None) == [
        "NAME         COST  NOTE             ID",
        "researcher   $1.5  budget_exceeded  act_1",
        "b           $10                     act_22",
    ]
    assert drawn(36) == [
        "NAME         COST  NOTE       ID",
        "researcher   $1.5  budget_e…  act_1",
        "b           $10               act_22",
    ]
    assert drawn(20) == ["NAME     COST  NOTE", "resea…   $1.5  budg…", "b       $10"]
    assert drawn(14) == ["NAME      COST", "resear…   $1.5", "b        $10"]


def test_a_word_is_painted_without_moving_its_column():
    table = Table((Column("STATUS"), Column("N", "number")), None, color=True)
    assert list(table.lines([("paused", "1"), ("active", "20")])) == [
        "\x1b[1mSTATUS   N\x1b[0m",
        "\x1b[33mpaused\x1b[0m   1",
        "\x1b[32mactive\x1b[0m  20",
    ]
