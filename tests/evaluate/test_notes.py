"""What probes note stands once, with those it is said of."""

from ctssl.evaluate.notes import each_once


def notes(**said):
    """Row, target, seed -> note, of two rows, two targets and for B two seeds."""
    every = [("A", "x", "s0"), ("A", "y", "s0"), *(("B", t, s) for t in "xy" for s in ("s0", "s1"))]
    return {key: said.get("_".join(key), said.get("all", "")) for key in every}


def test_nothing_is_said_of_nothing():
    assert each_once(notes()) == []
    assert each_once({}) == []


def test_what_all_say_stands_once():
    assert each_once(notes(all="one; two")) == ["all rows: one; two"]


def test_a_part_is_said_of_those_that_say_it():
    said = notes(all="one", A_x_s0="one; two", A_y_s0="one; two", B_x_s0="one; three", B_x_s1="one; three")
    assert each_once(said) == ["all rows: one", "A: two", "B (x): three"]


def test_a_seed_is_named_where_another_does_not_say_it():
    assert each_once(notes(B_y_s1="odd", A_x_s0="odd")) == ["A (x); B (y s1): odd"]


def test_a_row_is_called_by_its_name_where_it_is_the_only_one():
    assert each_once({("A", "x", "s0"): "one; one"}) == ["A: one"]
