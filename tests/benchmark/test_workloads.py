"""What can be asked for, and what is said of a mistyped name; no torch, no Ray."""

import subprocess
import sys

import pytest

from fedrevive.benchmark.workloads import WORKLOADS, chosen
from fedrevive.settings.errors import UserError


def test_names_and_codes_are_unique():
    keys = [key.lower() for workload in WORKLOADS for key in (workload.name, workload.code)]
    assert len(set(keys)) == len(keys)


def test_every_code_of_the_study_is_there():
    assert {f"B{number}" for number in range(1, 10)} <= {workload.code for workload in WORKLOADS}


def test_a_workload_is_found_by_name_or_code_in_any_case():
    for words in (["sim-small"], ["B2"], ["b2"], ["SIM-SMALL", "B2"]):
        assert [workload.name for workload in chosen(words)] == ["sim-small"]


def test_order_is_that_of_the_table_and_nothing_means_everything():
    assert [workload.code for workload in chosen(["kd", "B1"])] == ["B1", "B8"]
    assert chosen([]) == list(WORKLOADS)


def test_every_workload_can_be_carried_out():
    from fedrevive.benchmark.running import MEASURES

    assert list(MEASURES) == [workload.name for workload in WORKLOADS]


@pytest.mark.parametrize(
    ("word", "said"), [("sim-smal", "did you mean 'sim-small'"), ("zzz", "choose among ceiling (B1)")]
)
def test_a_mistyped_name_is_one_line(word, said):
    with pytest.raises(UserError) as caught:
        chosen([word])
    assert said in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_a_mistyped_name_costs_no_heavy_import_and_leaves_nothing(tmp_path):
    program = (
        "import sys; from fedrevive.cli.app import run_app; code = run_app(['bench', 'tuen']);"
        "print(code, *sorted({'torch', 'ray', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["2"]
    assert done.stderr.strip() == "error: WORKLOAD: 'tuen' is unknown; did you mean 'tune'?"
    assert list(tmp_path.iterdir()) == []
