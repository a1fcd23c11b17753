"""No two names lead to one file."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cotbal.jobs.rundir import RunDir
from cotbal.recipe.mixture import set_name
from cotbal.recipe.schema import NAME
from cotbal.training.run_paths import RunPaths

names = st.one_of(
    st.from_regex(NAME, fullmatch=True),
    st.lists(st.sampled_from(["a", "x", "mini", "test", "old-1"]), min_size=1, max_size=4).flatmap(
        lambda parts: st.sampled_from([".".join(parts), "-".join(parts)])
    ),
)
KINDS = ("full", "solo", "solo-mini")


@given(st.lists(st.tuples(names, names), unique=True, min_size=2, max_size=8))
def test_no_two_sets_share_a_file(sets: list[tuple[str, str]]) -> None:
    paths = RunPaths(Path("run"))
    for of_set in (set_name, paths.generations, paths.scores):
        assert len({of_set(*one) for one in sets}) == len(sets)


@given(st.lists(names, unique=True, min_size=2, max_size=6))
def test_no_two_runs_share_a_directory(units: list[str]) -> None:
    root = RunDir(Path("run"))
    probes = ["mini", "base", *(f"{kind}:{unit}" for kind, unit in product(KINDS, units))]
    finals = [
        "ew",
        "ratios",
        *(f"{kind}:{unit}" for kind, unit in product(("stl", "ratios"), units)),
    ]
    fractions = [f"alone:{unit}:{part}" for unit, part in product(units, ("1/8", "1", "1/16"))]
    folders = {
        *(root.probe(run).root for run in probes),
        *(root.final(run).root for run in finals),
        *(root.curve(run).root for run in [*fractions, "fraction:1/8", "fraction:1"]),
    }
    assert len(folders) == len(probes) + len(finals) + len(fractions) + 2
    assert not any(".old-" in folder.name for folder in folders), "as archives are called"
