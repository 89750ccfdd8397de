"""Code that a run, or a file of options, names as its network: it is imported where the user names it, not else."""

from pathlib import Path

import pytest
import yaml

from helpers.attacks import BRATS, commands, content, refused, rewrite

pytestmark = pytest.mark.slow

NETWORK = "helpers.leaves_a_mark:network"  # on Python's path in these tests, so that nothing but gmd is in the way


@pytest.fixture
def trap(copied) -> Path:
    """A run whose files agree that its network is a function of a module that is there."""
    run = copied("brats")
    values = yaml.safe_load((run / "config.yaml").read_text()) | {"network": NETWORK}
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    for name in ("best.pt", "last.pt"):
        rewrite(run / name, lambda state: state["config"].update(network=NETWORK))
    return run


@pytest.mark.parametrize("name", ["evaluate", "predict", "resume", "report", "compare"])
def test_no_command_imports_what_only_files_name(gmd, made, trap, tmp_path, name):
    mark = tmp_path / "imported"
    outcome = gmd(*commands(made, trap, made / "brats", "brats")[name], environment={"LEFT_MARK": str(mark)})
    assert not mark.exists(), outcome.told
    if name in ("evaluate", "predict"):
        refused(outcome, f"add --network {NETWORK}")
    elif name == "resume":
        refused(outcome, f"network: unet here, {NETWORK} there")


def test_a_file_of_options_imports_nothing(gmd, made, trap, tmp_path):
    before, mark = content(trap), tmp_path / "imported"
    words = ["train", "brats", "--config", trap / "config.yaml", "--data", made / "cases"]
    for more in (["--out", tmp_path / "new"], ["--out", trap, "--resume"]):
        outcome = gmd(*words, *more, environment={"LEFT_MARK": str(mark)})
        refused(outcome, "config.yaml", "only where the command line names it")
    assert content(trap) == before
    assert not mark.exists()


def test_another_network_on_the_line_is_refused_and_not_imported_either(gmd, trap, tmp_path):
    mark = tmp_path / "imported"
    for network in ("helpers.leaves_a_mark:other", "os:abort", "segresnet"):
        refused(gmd("evaluate", trap, "--network", network, environment={"LEFT_MARK": str(mark)}), "--network", NETWORK)
    assert not mark.exists()


def test_the_users_word_imports_it(gmd, trap, tmp_path):
    """So these tests would see it, were it imported otherwise."""
    mark = tmp_path / "imported"
    outcome = gmd("evaluate", trap, "--network", NETWORK, environment={"LEFT_MARK": str(mark)})
    refused(outcome, "it returns nothing, expected a torch.nn.Module")
    assert mark.exists()


def test_gmd_adds_no_folder_to_the_path(gmd, made, tmp_path):
    """What lies where the command is given is found by those alone who set PYTHONPATH."""
    (tmp_path / "left_by_others.py").write_text("raise SystemExit('executed')\n")
    words = ["train", "brats", "--data", made / "cases", "--out", tmp_path / "run", *BRATS, "--width", "0.5"]
    outcome = gmd(*words, "--network", "left_by_others:network", cwd=tmp_path)
    refused(outcome, "Python finds no module left_by_others", "PYTHONPATH=.")
