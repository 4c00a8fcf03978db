"""A training that is killed goes on from its last checkpoint, and ends with the weights of one that was not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.helpers.installations import manage, start
from tests.helpers.processes import wait_until
from tests.helpers.rendered import small_encoder

FILLING = "from tests.helpers.rendered import add_rendered; add_rendered(20, 2)"


def test_killed_training_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    data, encoder = tmp_path / "data", small_encoder(tmp_path / "small")
    settings = {"CATALOGMATCH_DISK_RESERVE_MB": "0"}
    assert manage(data, "migrate", "--verbosity", "0", **settings).returncode == 0
    filled = manage(data, "shell", "--verbosity", "0", "--command", FILLING, **settings)
    assert filled.returncode == 0, filled.stderr
    command = ["fine_tune", "--start-from", str(encoder), "--epochs", "3", "--out"]

    killed = start(data, *command, str(tmp_path / "killed"), **settings)
    wait_until((tmp_path / "killed.training" / "checkpoint.pt").is_file, 120, "the first checkpoint is there")
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()

    for name in ("killed", "whole"):
        done = manage(data, *command, str(tmp_path / name), **settings)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / name / "0_CLIPModel" / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "killed.training").exists()
