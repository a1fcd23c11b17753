from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cotbal.jobs.executors import Job, Resources, inline


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, code: str, cost: float = 1.0) -> Job:
        module = f"inline_{name}_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(code)
        return Job(
            name, tmp_path / "runs" / name, (sys.executable, "-m", module, "an argument"), cost
        )

    return make


def test_in_the_order_given_one_after_another(job: object) -> None:
    jobs = [job(name, "", cost) for name, cost in (("a", 1.0), ("b", 9.0), ("c", 4.0))]  # type: ignore[operator]
    outcomes = inline.run(jobs, Resources())
    assert next(outcomes).job.name == "a"
    assert not jobs[1].directory.exists()
    assert [outcome.job.name for outcome in outcomes] == ["b", "c"]


def test_a_module_runs_as_the_main_one_with_its_arguments(job: object) -> None:
    one = job("a", "import os, sys\nprint(__name__, sys.argv[1:], os.getpid())")  # type: ignore[operator]
    assert [outcome.ok for outcome in inline.run([one], Resources())] == [True]
    assert (one.directory / "log.txt").read_text() == f"__main__ ['an argument'] {os.getpid()}\n"


@pytest.mark.parametrize(
    ("code", "ok"), [("sys.exit()", True), ("sys.exit(0)", True), ("sys.exit(4)", False)]
)
def test_exit_codes(job: object, code: str, ok: bool) -> None:
    (outcome,) = inline.run([job("a", f"import sys\n{code}")], Resources())  # type: ignore[operator]
    assert outcome.ok is ok
    assert ("exit code 4" in outcome.message) is not ok


def test_ctrl_c_goes_through(job: object) -> None:
    outcomes = inline.run([job("a", "raise KeyboardInterrupt"), job("b", "")], Resources())  # type: ignore[operator]
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)
    assert list(outcomes) == []
