"""pcrl finds what a network at random does not, in lungs with holes."""

import numpy as np
import pytest
import torch
from methods.test_beats_start_boxes import SCANS, holed, score  # noqa: F401

from ctssl.config.methods import Pcrl as Options
from ctssl.methods.pcrl import Pcrl
from ctssl.train.batches import Cohort
from ctssl.train.schedule import Plan, cosine
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

OPTIONS = {
    **{"crop_voxels": (16, 16, 16), "crop_sizes": ((16, 16, 16),), "most_tissue": 1.0, "tries": 1},
    **{"width": 2, "projection_size": 16, "crop_batch": 15, "bn_groups": 3, "queue_size": 180},
    **{"momentum": 0.9, "epochs": 12, "learning_rate": 0.03},
}


@pytest.mark.slow
def test_pcrl_beats_its_own_start(holed):  # noqa: F811
    torch.manual_seed(1)
    options = Options(**OPTIONS)
    method = Pcrl.build(options, holed.atlas)
    method.to(memory_format=torch.channels_last_3d)
    start = score(method.query, holed)
    cohort, phases = Cohort(np.ones((SCANS, 6), bool), np.arange(SCANS)), method.phases()
    optimiser = torch.optim.SGD(phases[0].parameters, lr=1, momentum=options.sgd_momentum)
    stepper = Stepper(method, [optimiser], options, team=Team(), bf16=False)
    loader = Loader([], cohort, phases, 0, Team(), 1, pinned=False, boxes=holed.boxes)
    plan, found = Plan(phases, cohort, options.epochs, 0), []
    for step in plan.steps():
        rate = cosine(options.learning_rate, step.number, *plan.totals())
        found.append(stepper(step, loader(step), rate))
    trained = score(method.query, holed)
    errors = [np.mean([terms[name] for terms in found[-8:]]) for name in ("own", "input_error")]
    print(f"R2 {start:.3f} at the start, {trained:.3f} trained; errors {errors[0]:.3f} of {errors[1]:.3f}")
    assert trained > start + 0.15
    assert errors[0] < 0.5 * errors[1]  # of clean crops, turned; an input at random would have more
