"""Processes that prepare images for a GPU: the same results in the same order, whatever becomes of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest

from core.cpu import cpu_cores
from gpu import clip, timings
from gpu.encoders import registry, weights
from gpu.imaging.errors import ImageProcessingError
from gpu.pipeline import preprocess_workers, run
from gpu.pipeline.preprocess_image import EmbedRequest, Preprocessed, preprocess_image
from gpu.pipeline.preprocess_workers import preprocess_in_subprocess
from gpu.pipeline.run import ImageFeatures
from tests.helpers.installations import REPO
from tests.helpers.sample_images import jpeg, truncated


@pytest.fixture(autouse=True)
def _ended():
    yield
    preprocess_workers.close()


def own_processes() -> list[psutil.Process]:
    """Return the living processes that this one has started to preprocess images."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if child.status() != psutil.STATUS_ZOMBIE and preprocess_workers.__name__ in child.cmdline():
                found.append(child)
    return found


def idle_processes() -> list[subprocess.Popen[bytes]]:
    slots = preprocess_workers._workers._slots
    return [child._process for child in (slots.queue if slots else ()) if child is not None]


def busy_processes() -> list[psutil.Process]:
    idle = {process.pid for process in idle_processes()}
    return [process for process in own_processes() if process.pid not in idle]


@pytest.fixture
def paths(tmp_path):
    """Ninety images, every twentieth cut off."""
    made = [tmp_path / f"{number}.jpg" for number in range(90)]
    for number, path in enumerate(made):
        data = jpeg(number % 10, (100 + number, 120))
        path.write_bytes(truncated(data) if number % 20 == 7 else data)
    return made


def test_subprocess_preprocesses_like_this_process(with_clip, paths):
    preprocess = weights.find_weights().preprocess
    jobs = [EmbedRequest(path, clip=bool(n % 3), legacy=bool(n % 2)) for n, path in enumerate(paths[:12])]
    for job, result in zip(jobs, preprocess_in_subprocess(jobs, preprocess), strict=True):
        expected = preprocess_image(job, preprocess)
        if isinstance(expected, ImageProcessingError):
            assert isinstance(result, ImageProcessingError)
            assert (result.code, result.message) == (expected.code, expected.message)
            continue
        assert isinstance(result, Preprocessed)
        assert (result.pixels is None) == (expected.pixels is None)
        assert result.pixels is None or np.array_equal(result.pixels, np.asarray(expected.pixels))
        assert (result.legacy is None) == (expected.legacy is None)
        if result.legacy is not None and expected.legacy is not None:
            assert result.legacy.to_blobs() == expected.legacy.to_blobs()


def test_relative_path_is_resolved_in_the_callers_folder(paths, monkeypatch):
    monkeypatch.chdir(paths[0].parent)
    (result,) = preprocess_in_subprocess(
        [EmbedRequest(paths[0].relative_to(paths[0].parent), clip=False, legacy=True)], None
    )
    assert isinstance(result, Preprocessed)


def test_time_spent_in_subprocesses_is_counted(paths):
    timings.drain()
    preprocess_in_subprocess([EmbedRequest(paths[0], clip=False, legacy=True)], None)
    assert {"decode", "prepare"} <= set(timings.drain())


def test_run_on_a_gpu_keeps_the_order_of_results(with_clip, paths, monkeypatch):
    expected = clip.process_batch(paths, batch_size=8)
    batch_sizes: list[int] = []

    def counted(jobs, preprocess):
        batch_sizes.append(len(jobs))
        return preprocess_in_subprocess(jobs, preprocess)

    monkeypatch.setattr(run, "preprocess_in_subprocess", counted)
    monkeypatch.setattr(registry.get_encoder(), "device", "cuda")
    results = clip.process_batch(paths, batch_size=8)
    assert sum(batch_sizes) == len(paths)
    for result, vector in zip(results, expected, strict=True):
        if isinstance(vector, ImageProcessingError):
            assert isinstance(result, ImageProcessingError)
            assert result.code == vector.code
        else:
            assert isinstance(result, np.ndarray)
            assert float(result @ vector) > 0.99999


def test_batches_of_one_use_subprocesses_too(with_clip, paths, monkeypatch):
    monkeypatch.setattr(registry.get_encoder(), "device", "cuda")
    jobs = [EmbedRequest(path, clip=True, legacy=False) for path in paths]
    results = list(run.run_pipeline(jobs, batch_size=1))
    assert [isinstance(result, ImageFeatures) for result in results] == [n % 20 != 7 for n in range(90)]


@pytest.mark.parametrize(
    ("ending", "code"), [(signal.SIGSEGV, "image_corrupt"), (signal.SIGKILL, "image_too_large")], ids=str
)
def test_image_that_crashes_its_subprocess_fails_alone(ending, code, paths, tmp_path):
    pipe = tmp_path / "waits.jpg"
    os.mkfifo(pipe)  # reading it waits, until the process is ended from here

    def end() -> None:
        for _ in range(2):  # with its neighbours, and when it is tried alone
            with pipe.open("wb"):  # waits for a process to read
                (reader,) = busy_processes()
                reader.send_signal(ending)
            while psutil.pid_exists(reader.pid):  # until its parent has noticed
                time.sleep(0.01)

    ender = threading.Thread(target=end)
    ender.start()
    jobs = [EmbedRequest(path, clip=False, legacy=True) for path in (paths[0], pipe, paths[1])]
    first, culprit, last = preprocess_in_subprocess(jobs, None)
    ender.join()
    assert isinstance(first, Preprocessed)
    assert isinstance(culprit, ImageProcessingError)
    assert culprit.code == code
    assert isinstance(last, Preprocessed)


def test_subprocess_that_died_while_idle_is_replaced(paths):
    job = EmbedRequest(paths[0], clip=False, legacy=True)
    preprocess_in_subprocess([job], None)
    (process,) = idle_processes()
    process.kill()
    process.wait()
    assert isinstance(preprocess_in_subprocess([job], None)[0], Preprocessed)


def test_unloading_the_model_stops_the_subprocesses(with_clip, paths):
    preprocess_in_subprocess([EmbedRequest(paths[0], clip=False, legacy=True)], None)
    (process,) = idle_processes()
    clip.unload()
    assert process.returncode is not None
    assert own_processes() == []


def test_processes_start_only_for_enough_images_and_load_neither_django_nor_torch(with_clip, paths, monkeypatch):
    monkeypatch.setattr(registry.get_encoder(), "device", "cuda")
    clip.process_batch(paths[: run.MIN_IMAGES_FOR_SUBPROCESSES - 1], batch_size=8)
    assert own_processes() == []
    clip.process_batch(paths[: run.MIN_IMAGES_FOR_SUBPROCESSES], batch_size=8)
    assert 0 < len(own_processes()) <= cpu_cores()
    modules = subprocess.run(
        [sys.executable, "-c", f"import sys, {preprocess_workers.__name__}; print(*sys.modules)"],
        cwd=REPO,
        capture_output=True,
        check=True,
    )
    loaded = {name.partition(b".")[0] for name in modules.stdout.split()}
    assert not {b"django", b"torch", b"celery", b"gunicorn", b"multiprocessing"} & loaded


def test_processes_end_with_a_parent_that_is_killed(paths):
    script = (
        "import os, signal, sys, django; django.setup()\n"
        "from pathlib import Path\n"
        "from gpu.pipeline.preprocess_image import EmbedRequest\n"
        "from gpu.pipeline.preprocess_workers import _workers, preprocess_in_subprocess\n"
        "preprocess_in_subprocess([EmbedRequest(Path(sys.argv[1]), clip=False, legacy=True)], None)\n"
        "print(_workers._slots.queue[-1]._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(paths[0])], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while psutil.pid_exists(int(killed.stdout)):
        assert time.monotonic() < deadline, "the process outlived its parent"
        time.sleep(0.05)


def test_no_request_gets_the_response_to_an_interrupted_one(paths, monkeypatch):
    requests = [EmbedRequest(path, clip=False, legacy=True) for path in paths[:2]]
    with monkeypatch.context() as interrupted:
        interrupted.setattr(preprocess_workers, "receive", lambda _read: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            preprocess_in_subprocess(requests[:1], None)
    (result,) = preprocess_in_subprocess(requests[1:], None)
    expected = preprocess_image(requests[1], None)
    assert isinstance(result, Preprocessed)
    assert isinstance(expected, Preprocessed)
    assert result.legacy is not None
    assert expected.legacy is not None
    assert result.legacy.to_blobs() == expected.legacy.to_blobs()
