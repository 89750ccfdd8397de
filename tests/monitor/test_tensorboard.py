"""TensorBoard shows what metrics.jsonl holds, once, also after a run that was killed and resumed."""

import json
import subprocess
import sys
from pathlib import Path

from gmd.monitor.tensorboard import Scalars, scalars_of
from helpers.tensorboard import shown


def step_line(step: int, loss: float = 1.0) -> dict:
    dominance = {
        "norms": {"text": 2.0, "text+audio": 1.0},
        "weights": {"text": 0.5, "text+audio": 0.75},
        "projected": 0.125,
        "modality": {"cosine with all": {"text": 0.5}, "balance": {"text": 0.25, "audio": 0.75}},
    }
    return {
        "kind": "step",
        "epoch": 1,
        "step": step,
        "lr": 0.5,
        "loss": loss,
        "losses": {"text": loss, "text+audio": 2 * loss},
        "conflicts": 0.5,
        "cosines": [[1.0, 0.0], [0.0, 1.0]],
        "finite": True,
        "dominance": dominance,
    }


def epoch_line(epoch: int, validation: float | None) -> dict:
    metrics = None if validation is None else {"Acc-2": validation, "MAE": 0.5}
    return {"kind": "epoch", "epoch": epoch, "validation": validation, "metrics": metrics, "seconds": 4.0}


def test_every_quantity_of_a_step_and_an_epoch_is_a_scalar(tmp_path: Path):
    with Scalars(tmp_path) as scalars:
        scalars.write(step_line(1))
        scalars.write(step_line(2))
        scalars.write(epoch_line(1, 0.75))
    found = shown(tmp_path)
    assert found["loss/mean"] == {1: 1.0, 2: 1.0}
    assert found["loss/text+audio"] == {1: 2.0, 2: 2.0}
    assert found["gradient/norms/text"][2] == 2.0
    assert found["gradient/weights/text+audio"][2] == 0.75
    assert found["gradient/projected"][2] == 0.125
    assert found["gradient/conflicts"][2] == 0.5
    assert found["modality/cosine with all/text"][2] == 0.5
    assert found["modality/balance/audio"][2] == 0.75
    assert found["training/lr"][2] == 0.5
    assert found["validation/score"] == {2: 0.75}, "an epoch stands at its last step"
    assert found["validation/Acc-2"] == {2: 0.75}


def test_what_is_not_there_or_not_finite_is_left_out():
    """Of a skipped step, of a method with one objective, and of an epoch without validation."""
    skipped = step_line(1, loss=float("nan")) | {"conflicts": None, "cosines": None, "dominance": None, "finite": False}
    assert scalars_of(skipped) == {"training/finite": 0.0, "training/lr": 0.5}
    one = step_line(1)
    one["dominance"] |= {"weights": None, "projected": None, "modality": {}}
    assert not any("projected" in tag or "weights" in tag or "modality" in tag for tag in scalars_of(one))
    assert scalars_of(epoch_line(1, None)) == {"training/seconds of an epoch": 4.0}
    as_written = json.loads(json.dumps(skipped).replace("NaN", "null"))
    assert scalars_of(as_written) == scalars_of(skipped)


def test_a_resumed_run_shows_no_step_twice_and_loses_none(tmp_path: Path):
    """Killed at step 5 with a checkpoint of step 3: steps 4 and 5 are made once more, and come out otherwise."""
    with Scalars(tmp_path) as scalars:
        for step in (1, 2, 3):
            scalars.write(step_line(step))
        scalars.write(epoch_line(1, 0.5))
        for step in (4, 5):
            scalars.write(step_line(step, loss=9.0))
        scalars.write(epoch_line(2, 0.9))
    with Scalars(tmp_path, first_step=4) as scalars:
        for step in (4, 5, 6):
            scalars.write(step_line(step, loss=2.0))
        scalars.write(epoch_line(2, 0.75))
    found = shown(tmp_path)
    assert found["loss/mean"] == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0, 6: 2.0}
    assert found["validation/score"] == {3: 0.5, 6: 0.75}


def test_a_run_that_starts_anew_in_the_folder_hides_the_old_one(tmp_path: Path):
    with Scalars(tmp_path) as scalars:
        scalars.write(step_line(1))
        scalars.write(step_line(2))
    with Scalars(tmp_path) as scalars:
        scalars.write(step_line(1, loss=3.0))
    assert shown(tmp_path)["loss/mean"] == {1: 3.0}


def test_what_was_flushed_survives_a_kill(tmp_path: Path):
    lines = (
        "import os, sys; from pathlib import Path; from gmd.monitor.tensorboard import Scalars\n"
        "record = {'kind': 'step', 'step': 1, 'loss': 1.0, 'losses': {}, 'conflicts': None, 'finite': True}\n"
        "scalars = Scalars(Path(sys.argv[1])); scalars.write(record); scalars.flush(); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", lines, str(tmp_path)], check=False).returncode == 9
    assert shown(tmp_path)["loss/mean"] == {1: 1.0}


def test_tensorboard_is_not_imported_before_it_is_needed():
    lines = (
        "import sys, gmd, gmd.monitor.tensorboard, gmd.monitor.dominance\n"
        "sys.exit(int('tensorboard' in sys.modules or 'matplotlib' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0
