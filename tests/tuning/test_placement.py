"""What trials ask of a machine, and requests that no machine of this size could meet."""

import pytest

from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import load
from fedrevive_tuning.placement import place

INLINE = load("digits", ["compute.executor=inline"])


def ray(workers: int | str = "auto"):
    return load("digits", ["compute.executor=ray", f"compute.workers={workers}"])


def test_inline_trials_take_one_cpu_each():
    placement = place(INLINE, seeds=3, concurrent=None, cpus=8, gpus=0)
    assert (placement.concurrent, placement.bundles()) == (8, [{"CPU": 1.0}])
    assert placement.sentence() == "a trial asks 1 CPU; this machine offers 8 CPUs: 8 at a time"


def test_inline_trials_share_the_gpus():
    placement = place(INLINE, seeds=1, concurrent=5, cpus=8, gpus=2)
    assert placement.gpu == pytest.approx(1 / 3, abs=1e-4)  # 3 on one, 2 on the other
    assert placement.bundles() == [{"CPU": 1.0, "GPU": placement.gpu}]


def test_trials_on_actors_have_a_server_share_and_workers_per_seed():
    placement = place(ray(2), seeds=2, concurrent=None, cpus=9, gpus=1)
    assert (placement.concurrent, placement.workers, placement.gpu) == (2, 2, 0.25)
    assert placement.bundles() == [{}, {"GPU": 0.25}, {"GPU": 0.25}, *({"CPU": 1.0},) * 4]


@pytest.mark.parametrize(("concurrent", "workers", "at_once"), [(None, 4, 1), (2, 2, 2), (4, 1, 4)])
def test_auto_workers_fill_the_machine(concurrent, workers, at_once):
    placement = place(ray(), seeds=2, concurrent=concurrent, cpus=8, gpus=0)
    assert (placement.workers, placement.concurrent) == (workers, at_once)


def test_a_trial_that_fits_no_machine_of_this_size_is_one_line():
    with pytest.raises(
        UserError, match=r"a trial asks 3 CPUs \(3 seeds with 1 client actors each\)"
    ) as caught:
        place(ray(), seeds=3, concurrent=None, cpus=2, gpus=0)
    assert caught.value.exit_code == 2


def test_more_trials_at_once_than_cpus_are_one_line():
    with pytest.raises(UserError, match=r"--concurrent: 3 trials of 1 CPUs do not fit the 2 CPUs; use 1..2"):
        place(INLINE, seeds=1, concurrent=3, cpus=2, gpus=0)
