"""Each block of commands in the documentation runs, or a table says why not."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from tests.documentation.blocks import COMMAND_LANGUAGES, Block, all_blocks, blocks_of
from tests.documentation.documented import Documented
from tests.helpers.installations import REPO
from tests.helpers.processes import wait_until
from tests.helpers.redis_server import free_port
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

# The network is not used, so these only show their help.
DOWNLOAD = {"manage.py download_model": "manage.py download_model --help"}
CLONE = {"git clone <this repository> catalogmatch && cd catalogmatch": "true"}


@dataclass(frozen=True, slots=True)
class Run:
    """How a block runs: what its placeholders become, and further variables."""

    changes: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    by_hand: bool = False  # without CATALOGMATCH_ENV_FILE, because the block sets it


# Page and first line. `{folder}` is a folder of the test.
RUN: dict[tuple[str, str], Run] = {
    ("README.md", ".venv/bin/python manage.py download_model"): Run(DOWNLOAD),
    ("README.md", "make test"): Run({"make ": "make -n "}),
    ("CONTRIBUTING.md", "git clone"): Run(CLONE | {"make ": "make -n "}),
    ("docs/backup-and-upgrade.md", "manage.py backup /backup/catalogmatch/$(date +%F)"): Run(),
    ("docs/backup-and-upgrade.md", "manage.py restore /backup"): Run(
        env={"CATALOGMATCH_DATA_DIR": "{folder}/restored"}
    ),
    ("docs/commands.md", "python manage.py import_products"): Run(
        {"PATH": "catalogue.csv", "DIR": ".", "COLUMN=FIELD": "sku=sku", "NAME": "none"}
    ),
    ("docs/commands.md", "python manage.py reindex"): Run(),
    ("docs/commands.md", "python manage.py match_products"): Run(),
    ("docs/commands.md", "python manage.py find_duplicates"): Run({"P]": "0.95]"}),
    ("docs/commands.md", "python manage.py evaluate_matching"): Run(
        {"PATH": "{folder}/figures.json", "[--version VERSION]": "", "SHARE": "0.3"}
    ),
    ("docs/commands.md", "python manage.py create_token"): Run({"USERNAME": "importer", "--days N": "--days 7"}),
    ("docs/commands.md", "python manage.py backup"): Run({"PATH": "{folder}/backup/new"}),
    ("docs/commands.md", "python manage.py prune_history"): Run({"[--forget-deleted]": "--forget-deleted"}),
    ("docs/deployment.md", "sudo -u catalogmatch -s"): Run(
        {"createsuperuser": "createsuperuser --noinput"},  # the answers are variables and not typed
        dict.fromkeys(("DJANGO_SUPERUSER_USERNAME", "DJANGO_SUPERUSER_EMAIL"), "a-name@example.com")
        | {"DJANGO_SUPERUSER_PASSWORD": "a-long-password"},
        by_hand=True,
    ),
    ("docs/deployment.md", ".venv/bin/python manage.py download_model"): Run(DOWNLOAD),
    ("docs/deployment.md", "cd /opt/catalogmatch && sudo"): Run(by_hand=True),
    ("docs/deployment.md", "manage.py create_token importer"): Run(),
    ("docs/matching-quality.md", "python manage.py evaluate_matching"): Run({"PATH": "{folder}/figures.json"}),
    ("docs/matching-quality.md", "python manage.py import_products PATH/TO/YOUR/IMAGES"): Run(),
}
DEMO = [
    ("README.md", "git clone"),
    ("README.md", 'curl -H "Authorization: Token $TOKEN" -F image=@photo.jpg'),
    ("README.md", 'curl -H "Authorization: Token $TOKEN" -F image=@mug.jpg'),
]
WEIGHTS = "needs the weights of CLIP; tests/gpu/encoders/test_onnx.py exports a small model"
NOT_RUN: dict[tuple[str, str], str] = {
    ("CONTRIBUTING.md", ".venv/bin/python -m pytest"): "starts the tests within the tests",
    ("docs/backup-and-upgrade.md", "manage.py backup /backup/catalogmatch/before-upgrade"): (
        "needs systemd, an older version and the network; test_schema_upgrade.py upgrades a database"
    ),
    ("docs/commands.md", "python manage.py download_model"): WEIGHTS,
    ("docs/commands.md", "python manage.py benchmark_backends"): WEIGHTS,
    ("docs/commands.md", "python manage.py self_audit"): (
        "needs products with images that are ready; tests/matching/quality/test_self_audit.py runs it"
    ),
    ("docs/commands.md", "python manage.py calibrate"): (
        "needs 20 products with several images; tests/matching/answers/test_answers.py calibrates"
    ),
    ("docs/commands.md", "python manage.py train_head"): (
        "needs 20 products with several views; tests/matching/learning/test_heads.py learns and chooses heads"
    ),
    ("docs/commands.md", "python manage.py fine_tune"): (
        "needs a model that can be trained; tests/matching/fine_tuning trains a small one"
    ),
    ("docs/commands.md", "python manage.py compare_models"): (
        "needs a learned head; tests/matching/learning/test_compare_models.py compares versions"
    ),
    ("docs/commands.md", "python manage.py prune_models"): (
        "needs versions to delete; tests/matching/learning/test_prune_models.py deletes some"
    ),
    ("docs/commands.md", "python manage.py move_to_postgres"): (
        "needs a PostgreSQL server; tests/matching/test_postgres_migration.py moves to one"
    ),
    **dict.fromkeys(
        [
            ("README.md", "sh deploy/secrets.sh"),
            ("docs/containers.md", "sh deploy/secrets.sh && docker compose --file"),
            ("docs/containers.md", "sh deploy/secrets.sh && docker compose up"),
            ("docs/containers.md", "docker compose --file compose.small.yaml run"),
            ("docs/containers.md", "docker compose exec web"),
            ("docs/containers.md", "docker compose --file compose.yaml"),
            ("docs/containers.md", "docker build"),
            ("docs/containers.md", "docker compose exec worker"),
        ],
        "needs a container engine; tests/deploy starts what the containers start",
    ),
    ("docs/deployment.md", "cp deploy/systemd"): "needs root and systemd; test_deployment.py starts the units",
    ("docs/deployment.md", "cd /opt/catalogmatch"): "downloads packages for minutes; make does the same in CI",
    ("docs/gpu.md", "CUDA_VISIBLE_DEVICES=0"): "needs two GPUs; test_deployment.py starts the same worker on a CPU",
    ("docs/gpu.md", "python manage.py export_onnx"): WEIGHTS,
    ("docs/gpu.md", "python manage.py benchmark_backends"): WEIGHTS,
    ("docs/gpu.md", "python benchmarks/random_clip.py"): "writes a model of 600 MB and measures for minutes",
    ("docs/matching-quality.md", "python -m benchmarks.tune_legacy"): "needs the data set of the page, and minutes",
    ("docs/metrics-and-alerts.md", "journalctl"): "needs systemd's journal",
    ("docs/reliability.md", ".venv/bin/python -m tests.faults.soak"): "runs for thirty minutes",
    ("docs/when-to-move-to-postgresql.md", "export DATABASE_URL"): (
        "needs a PostgreSQL server; tests/matching/test_postgres_migration.py moves to one"
    ),
}

COMMAND = re.compile(r"^\s*(sudo|cd|git|make|curl|python|manage|\.venv|celery|gunicorn|systemctl)\b", re.MULTILINE)

BLOCKS = [block for block in all_blocks() if block.language in COMMAND_LANGUAGES]


def entries_of(block: Block) -> list[tuple[str, str]]:
    """Return the entries of the tables for a block: those with the longest beginning of its first line."""
    fitting = [key for key in (*RUN, *DEMO, *NOT_RUN) if key[0] == block.page and block.title.startswith(key[1])]
    longest = max((len(title) for _, title in fitting), default=0)
    return [key for key in fitting if len(key[1]) == longest]


NUMBERS = {"N": "7", "P": "0.9", "SHARE": "0.3"}  # placeholders of a synopsis that only take numbers


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_runs_or_has_a_reason_not_to(block: Block) -> None:
    assert len(entries_of(block)) == 1, f"add {block} to RUN, or to NOT_RUN with a reason"


def test_entries_of_the_tables_belong_to_blocks() -> None:
    assert sorted([*RUN, *DEMO, *NOT_RUN]) == sorted(key for block in BLOCKS for key in entries_of(block))


def test_no_commands_hide_in_blocks_of_another_language() -> None:
    others = [block for block in all_blocks() if block.language not in COMMAND_LANGUAGES]
    assert {block.language for block in others} <= {"ini", "json", "mermaid", "nginx", "text", "yaml"}
    assert [str(block) for block in others if block.language == "text" and COMMAND.search(block.text)] == []


def test_blocks_are_found_in_lists_and_with_any_fence() -> None:
    text = "1. one\n   ```bash\n   ls\n   ```\n~~~sh\nls -l\n~~~\n````console\n```\n````\n"
    assert [(block.language, block.text) for block in blocks_of(text, "page")] == [
        ("bash", "ls\n"),
        ("sh", "ls -l\n"),
        ("console", "```\n"),
    ]


@pytest.fixture(scope="module")
def checkout(site: Documented, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like a checkout, with the files that the documentation names and a backup."""
    folder = tmp_path_factory.mktemp("blocks") / "checkout"
    folder.mkdir()
    for path in REPO.iterdir():
        if path.name not in ("var", ".env", ".git", ".venv"):
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(sys.prefix)
    images = folder / "PATH" / "TO" / "YOUR" / "IMAGES"
    images.mkdir(parents=True)
    for number, path in enumerate([*(images / f"{n}.jpg" for n in range(3)), folder / "photo.jpg", folder / "mug.jpg"]):
        path.write_bytes(jpeg(500 + number))
    (images / "catalogue.csv").write_text("sku,image,is_historical\nA-1,0.jpg,1\nA-2,1.jpg,1\n")
    (images / "views.csv").write_text("sku,image,is_historical\nA-1,2.jpg,1\n")
    (images / "queries.csv").write_text("image,sku\n2.jpg,A-1\n")
    (folder / "catalogue.csv").write_text("sku,name,image\nMUG-7,Mug,mug.jpg\n")
    (folder / "QUERIES.csv").write_text("image,sku\nphoto.jpg,A-1\n")
    programs = folder.parent / "bin"
    programs.mkdir()
    # What the pages abbreviate, and sudo without a change of the user.
    for name, script in {
        "manage.py": f'exec {sys.executable} {REPO}/manage.py "$@"',
        "sudo": 'shift 2; [ "$1" = -s ] && exit 0; exec env "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    done = site.manage("import_products", str(images / "catalogue.csv"))
    assert done.returncode == 0, done.stderr
    done = site.manage("backup", str(folder.parent / "backup" / "catalogmatch" / "2026-11-20"))
    assert done.returncode == 0, done.stderr
    return folder


def maximal(line: str) -> str:
    """Return a synopsis with all its options, each with its first alternative."""
    line = re.sub(r"\[([^\]|]*) \|[^\]]*\]", r"\1", line)
    return re.sub(r"\b(\w+)(?:\|\w+)+", lambda match: match[0].split("|")[-1], re.sub(r"[\[\]]", "", line))


def script_of(block: Block, site: Documented, folder: Path, run: Run) -> str:
    text = block.text
    for documented, ours in run.changes.items():
        assert documented in block.text, f"{documented} is not in {block}"
        text = text.replace(documented, ours.replace("{folder}", str(folder)))
    if is_synopsis(block):
        text = maximal(text)
    text = text.replace("cd /opt/catalogmatch", f"cd {folder / 'checkout'}")
    return site.filled(text).replace("/backup/catalogmatch", f"{folder}/backup/catalogmatch")


def is_synopsis(block: Block) -> bool:
    return all(re.match(r"python manage\.py \w+", line) for line in block.text.splitlines()) and "[" in block.text


def run_script(script: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder / "checkout",
        env=env | {"PATH": f"{folder / 'bin'}:{env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", [block for block in BLOCKS if set(entries_of(block)) & set(RUN)], ids=str)
def test_commands_of_the_block_succeed(block: Block, site: Documented, checkout: Path) -> None:
    [key] = entries_of(block)
    run, folder = RUN[key], checkout.parent
    env = (site.bare if run.by_hand else site.command_env()) | {
        name: value.replace("{folder}", str(folder)) for name, value in run.env.items()
    }
    run_script(script_of(block, site, folder, run), folder, env)


def variants(line: str) -> Iterator[list[str]]:
    """Return a synopsis without options, and with each alternative of each option."""
    options = re.findall(r"\[([^\]]*)\]", line)
    plain = shlex.split(re.sub(r"\[[^\]]*\]", "", line))
    yield plain
    for option in itertools.chain.from_iterable(each.split(" | ") for each in options):
        *names, last = option.split()
        for value in last.split("|"):
            yield [*plain, *names, value]


SYNOPSES = [line for block in BLOCKS if is_synopsis(block) for line in block.text.splitlines()]


@pytest.mark.parametrize("line", SYNOPSES)
def test_commands_take_all_options_of_their_synopsis(line: str) -> None:
    for _, _, name, *arguments in variants(line):
        app = get_commands()[name]
        command = load_command_class(app, name) if isinstance(app, str) else app
        command.create_parser("manage.py", name).parse_args([NUMBERS.get(each, each) for each in arguments])


@pytest.fixture(scope="module")
def demo(checkout: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Start the demo by the first block of the README. Return variables and changes for the next blocks."""
    [block] = [block for block in BLOCKS if entries_of(block) == [DEMO[0]]]
    folder, port = checkout.parent, free_port()
    script = block.text
    # Everything is installed already, and each installation of the tests has its own settings.
    installed = f"make -o .venv/.installed -o .venv/bin/python -o .env demo PORT={port}"
    for documented, ours in (CLONE | {"make demo": installed}).items():
        assert documented in script
        script = script.replace(documented, ours)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "HF_HUB_OFFLINE": "1",
        "CATALOGMATCH_ENV_FILE": os.devnull,
        "CATALOGMATCH_DATA_DIR": str(folder / "demo"),
        "DJANGO_SECRET_KEY": "of the demo",
        "PYTHONUNBUFFERED": "1",
    }
    log = folder / "demo.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-euc", script], cwd=checkout, env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until(lambda: "Listening at" in log.read_text(), 150, lambda: f"the demo is served\n{log.read_text()}")
        [token] = re.findall(r"^ +Token +(\S+)", log.read_text(), re.MULTILINE)
        yield env | {"TOKEN": token}, {"http://127.0.0.1:8000": f"http://127.0.0.1:{port}"}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("key", DEMO[1:], ids=["search", "upload and match"])
def test_calls_of_the_readme_work_on_the_demo(
    key: tuple[str, str], demo: tuple[dict[str, str], dict[str, str]], checkout: Path
) -> None:
    env, changes = demo
    [block] = [block for block in BLOCKS if entries_of(block) == [key]]
    script = block.text.replace("curl ", "curl -sS --fail-with-body ")
    for documented, ours in changes.items():
        script = script.replace(documented, ours)
    assert '"matches"' in run_script(script, checkout.parent, env)
