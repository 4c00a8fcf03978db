"""Mixed load for half an hour, with a killed process every 20 seconds: python -m tests.faults.soak

    python -m tests.faults.soak [--minutes 30] [--kill-every 20] [--json PATH]

Runs Redis, two web processes, a worker and beat on SQLite, restarts what dies, and sends uploads, queries, verdicts,
imports and deletions by HTTP. Reports memory and open descriptors of each role over time, errors by code, and accepted
uploads that are missing at the end. Exits with 1 for a lost or damaged upload, an unexpected error, or growth above
the bound. ``--kill-every 0`` kills nothing, which shows slow leaks of processes that live long.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import json
import random
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import tests.settings  # noqa: F401  (first: it sets the environment)
from tests.helpers.processes import Response, Stack, wait_until
from tests.helpers.sample_images import jpeg
from tests.helpers.web.import_page import IMPORT, zipped

SAMPLE_SECONDS = 2.0
RETRY_SECONDS = 0.3
# The last third may use this much more than the first, which has warmed up by then.
MAX_MEMORY_GROWTH, MEMORY_SLACK_MIB = 1.15, 40
MAX_DESCRIPTOR_GROWTH, DESCRIPTOR_SLACK = 1.15, 16
PASSWORD = "only for the soak test"


class Load:
    """What was accepted, what failed, and what must exist at the end."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.accepted: dict[int, int] = {}  # images by product
        self.imported: dict[str, int] = {}  # images by SKU
        self.deleted: set[int] = set()
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.browser: Browser | None = None

    def call(self, action: str, request: Callable[[], Response]) -> Response:
        """Send a request until the server responds with something else than an outage. Count all failures."""
        while True:
            try:
                response = request()
            except (OSError, HTTPException):
                self.errors["connection"] += 1
            else:
                if response.status < 400:
                    self.done[action] += 1
                    return response
                code = response.body.get("code", "") if isinstance(response.body, dict) else ""
                self.errors[f"{action} {response.status} {code}"] += 1
                if response.status != 503:
                    return response
            if self.stopping.wait(RETRY_SECONDS):
                raise SystemExit  # ends the thread

    def upload(self, chance: random.Random, number: int) -> None:
        files = [jpeg(chance.randrange(500)) for _ in range(chance.randint(1, 3))]
        fields: dict[str, Any] = {
            "sku": f"{threading.current_thread().name} {number}",
            "is_historical": str(number % 2 == 0).lower(),
        }
        response = self.call("upload", lambda: self.stack.upload(files, **fields))
        if response.status < 400:
            with self.lock:
                self.accepted[response.body["product_id"]] = len(set(files))

    def query(self, chance: random.Random, number: int) -> None:
        if number % 4:
            self.call("query", lambda: self.stack.match_image(jpeg(chance.randrange(500)), wait=20))
        else:
            self.call("list", lambda: self.stack.call("GET", f"/api/products?page_size={chance.randint(1, 100)}"))

    def review(self, chance: random.Random, _number: int) -> None:
        page = self.call("matches", lambda: self.stack.call("GET", "/api/matches?review_status=pending"))
        for match in chance.sample(page.body["results"], min(3, len(page.body["results"]))):
            verdict = {"review_status": chance.choice(["confirmed", "rejected"])}
            self.call("review", lambda match=match, verdict=verdict: self.stack.call(  # type: ignore[misc]
                "PATCH", f"/api/matches/{match['id']}", verdict
            ))  # fmt: skip

    def delete(self, chance: random.Random, _number: int) -> None:
        with self.lock:
            if len(self.accepted) < 20:
                return
            product = chance.choice(list(self.accepted))
            del self.accepted[product]
        self.call("delete", lambda: self.stack.call("DELETE", f"/api/products/{product}"))
        with self.lock:
            self.deleted.add(product)

    def import_files(self, chance: random.Random, number: int) -> None:
        """Send a table and a ZIP to the import page, confirm, and resume if the web process was killed."""
        skus = [f"import {number}-{row}" for row in range(5)]
        table = "sku,name,image\n" + "".join(f"{sku},imported,{row}.jpg\n" for row, sku in enumerate(skus))
        archive = zipped({f"{row}.jpg": jpeg(chance.randrange(500)) for row in range(5)})
        self.browser = page = self.browser or Browser(self.stack, self)
        address = page.send(IMPORT, {"files": [("table.csv", table.encode()), ("images.zip", archive)]})
        key = re.findall(r"import/([0-9a-f-]{36})/", address)
        if not key:
            self.errors["import refused"] += 1
            return
        while not self.stopping.is_set():
            rows = self.stack.rows(
                "SELECT state, beat_at < ? FROM imports WHERE id = ?", minute_ago(), key[0].replace("-", "")
            )
            if not rows or rows[0][0] == "failed":
                self.errors["import failed"] += 1
                return
            state, is_stale = rows[0]
            if state == "done":
                self.done["import"] += 1
                with self.lock:
                    self.imported |= dict.fromkeys(skus, 1)
                return
            if state == "checked" or is_stale:
                page.send(f"{IMPORT}{key[0]}/run/", {})
            self.stopping.wait(1)

    def start(self, seed: int) -> list[threading.Thread]:
        """Start the clients. Each pauses between its requests, so that two cores also embed."""
        plan = [(self.upload, 0.4), (self.upload, 0.4), (self.query, 0.5), (self.review, 1.0), (self.delete, 2.0),
                (self.import_files, 5.0)]  # fmt: skip
        threads = []
        for number, (action, pause) in enumerate(plan):
            thread = threading.Thread(target=self._repeat, args=(action, pause, seed + number), name=f"client {number}")
            thread.start()
            threads.append(thread)
        return threads

    def _repeat(self, action: Callable[[random.Random, int], None], pause: float, seed: int) -> None:
        chance, number = random.Random(seed), 0
        while not self.stopping.wait(pause):
            number += 1
            try:
                action(chance, number)
            except SystemExit:
                return
            except Exception as error:  # noqa: BLE001  (the other clients go on, and the report names it)
                self.errors[f"{action.__name__} raised {error!r:.200}"] += 1


class Browser:
    """A signed-in browser: keeps cookies and sends forms with their CSRF token."""

    def __init__(self, stack: Stack, load: Load) -> None:
        self._stack, self._load = stack, load
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))
        self.send("/admin/login/", {"username": "manager", "password": PASSWORD})

    def send(self, path: str, fields: dict[str, Any]) -> str:
        """Post a form and return the address to which it leads."""
        return str(self._load.call(f"form {path.split('/')[-2]:.6}", lambda: self._post(path, fields)).body)

    def _post(self, path: str, fields: dict[str, Any]) -> Response:
        from django.core.files.uploadedfile import SimpleUploadedFile
        from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

        base = self._stack.address
        headers = {"Content-Type": MULTIPART_CONTENT, "Referer": base}
        try:
            self._opener.open(f"{base}{'/admin/login/' if 'login' in path else IMPORT}", timeout=60).close()
        except urllib.error.HTTPError as error:  # it is an OSError, too
            return Response(error.code, {}, 0)
        token = next(cookie.value for cookie in self._cookies if cookie.name == "csrftoken")
        form = {
            name: [SimpleUploadedFile(*file) for file in value] if isinstance(value, list) else value
            for name, value in fields.items()
        }
        body = encode_multipart(BOUNDARY, form | {"csrfmiddlewaretoken": token})
        try:
            with self._opener.open(urllib.request.Request(f"{base}{path}", body, headers), timeout=60) as response:
                return Response(response.status, response.geturl(), 0)
        except urllib.error.HTTPError as error:
            return Response(error.code, {}, 0)


class Supervisor:
    """Restart what dies, kill a random process now and then, and measure."""

    def __init__(self, stack: Stack, kill_every: float, seed: int) -> None:
        self._stack, self._kill_every, self._chance = stack, kill_every, random.Random(seed)
        self._worker = stack.start_worker(beat="")
        self._beat = stack.start_beat()
        self.kills: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.samples: dict[str, list[tuple[float, float, int]]] = defaultdict(list)  # time, MiB, descriptors
        self._started = time.monotonic()
        self._next_kill = self._started + kill_every

    def step(self, kill: bool = True) -> None:
        self._restart_dead()
        self._measure()
        if kill and self._kill_every and time.monotonic() >= self._next_kill:
            self._next_kill += self._kill_every
            self._kill_one()

    def _roots(self) -> dict[str, int]:
        assert self._stack.web is not None
        assert self._stack.redis.process is not None
        return {
            "web": self._stack.web.pid, "worker": self._worker.pid, "beat": self._beat.pid,
            "redis": self._stack.redis.process.pid,
        }  # fmt: skip

    def _kill_one(self) -> None:
        """Kill a process of a random role: a child as likely as its parent."""
        role = self._chance.choice(["web", "web", "worker", "worker", "beat", "redis"])
        with suppress(psutil.Error):
            victim = self._chance.choice(family(self._roots()[role]))
            victim.kill()
            self.kills[role] += 1

    def _restart_dead(self) -> None:
        stack = self._stack
        assert stack.web is not None
        assert stack.redis.process is not None
        if stack.redis.process.poll() is not None:
            self.restarts["redis"] += 1
            stack.redis.start()
        if stack.web.poll() is not None:
            self.restarts["web"] += 1
            stack.stop(stack.web, signal.SIGKILL)  # with its children, which hold the port
            stack.start_web(WEB_CONCURRENCY="2")
        if self._worker.poll() is not None:
            self.restarts["worker"] += 1
            self._worker = stack.launch_worker(beat="")
        if self._beat.poll() is not None:
            self.restarts["beat"] += 1
            self._beat = stack.start_beat()

    def _measure(self) -> None:
        """Sample the memory and descriptors of each role, with all processes that it started."""
        seconds = time.monotonic() - self._started
        for role, root in self._roots().items():
            with suppress(psutil.Error):
                members = family(root)
                memory = sum(process.memory_info().rss for process in members) / 2**20
                self.samples[role].append((seconds, memory, sum(process.num_fds() for process in members)))


def family(root: int) -> list[psutil.Process]:
    parent = psutil.Process(root)
    return [parent, *parent.children(recursive=True)]


def minute_ago() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 61))


def growth(samples: list[tuple[float, float, int]]) -> dict[str, float]:
    """Return memory (MiB) and descriptors at the end of each third: their 90th percentile there."""
    thirds = np.array_split(np.array(samples), 3)
    result = {}
    for column, name in ((1, "memory"), (2, "descriptors")):
        for number, third in enumerate(thirds, start=1):
            result[f"{name}_{number}"] = round(float(np.percentile(third[:, column], 90)), 1)
    return result


def missing(load: Load) -> list[str]:
    """Return what was accepted and is not there, or not complete."""
    stack = load.stack
    rows = stack.rows(
        "SELECT p.id, p.sku, count(i.id), sum(i.state = 'ready') FROM products p"
        " LEFT JOIN product_images i ON i.product_id = p.id GROUP BY p.id"
    )
    found = {pk: (images, ready) for pk, _sku, images, ready in rows}
    by_sku = {sku: (images, ready) for _pk, sku, images, ready in rows}
    lost = [f"product {pk}" for pk, images in load.accepted.items() if found.get(pk) != (images, images)]
    lost += [f"SKU {sku}" for sku, images in load.imported.items() if by_sku.get(sku) != (images, images)]
    lost += [f"product {pk} was deleted and is back" for pk in load.deleted & found.keys()]
    double = stack.rows("SELECT image_id FROM features GROUP BY image_id, kind, model_name HAVING count(*) > 1")
    return lost + [f"image {pk} has features twice" for (pk,) in double]


def run(stack: Stack, minutes: float, kill_every: float) -> dict[str, Any]:
    stack.manage(
        "shell", "--no-imports", "--command",
        "from django.contrib.auth.models import User; user = User.objects.get(username='manager');"
        f"user.is_staff = True; user.set_password({PASSWORD!r}); user.save()",
    )  # fmt: skip
    token = "from catalogmatch.accounts.tokens import issue_token; from django.contrib.auth.models import User;"
    stack.token = stack.manage(
        "shell", "--no-imports", "--command", f"{token} print(issue_token(User.objects.get(username='manager')))"
    ).strip()  # a new password ended the first token
    stack.manage("collectstatic", "--noinput", "--verbosity", "0")
    assert stack.web is not None
    stack.stop(stack.web)
    stack.start_web(WEB_CONCURRENCY="2")
    supervisor, load = Supervisor(stack, kill_every, seed=1), Load(stack)
    threads = load.start(seed=1)
    ends, report = time.monotonic() + 60 * minutes, time.monotonic() + 60
    try:
        while time.monotonic() < ends:
            supervisor.step()
            if time.monotonic() > report:
                report += 60
                last = {role: f"{samples[-1][1]:.0f} MiB" for role, samples in supervisor.samples.items() if samples}
                print(dict(load.done), last, dict(supervisor.kills), flush=True)
            time.sleep(SAMPLE_SECONDS)
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join()
    unfinished = "SELECT count(*) FROM product_images WHERE state IN ('pending', 'claimed')"
    deadline = time.monotonic() + 180
    while stack.rows(unfinished) != [(0,)] and time.monotonic() < deadline:
        supervisor.step(kill=False)
        time.sleep(SAMPLE_SECONDS)
    wait_until(lambda: stack.rows(unfinished) == [(0,)], 1, lambda: f"unfinished: {stack.rows(unfinished)}")
    stack.manage_result("verify", "--fix")  # removes files of aborted uploads
    return {
        "done": dict(load.done), "accepted": len(load.accepted) + len(load.imported), "deleted": len(load.deleted),
        "lost": missing(load), "verify": stack.manage_result("verify").stdout.strip().splitlines(),
        "errors": dict(load.errors), "kills": dict(supervisor.kills), "restarts": dict(supervisor.restarts),
        "use": {role: growth(samples) for role, samples in supervisor.samples.items()},
        "tracebacks": tracebacks(stack),
    }  # fmt: skip


def tracebacks(stack: Stack) -> dict[str, dict[str, int]]:
    """Return the last lines of the tracebacks in the logs, with their number. For a reader, they decide nothing."""
    found: dict[str, dict[str, int]] = {}
    for name in ("web", "worker", "beat"):
        blocks = re.findall(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\w[\w.]*)", stack.log(name))
        found[name] = dict(Counter(blocks).most_common(10))
    return found


def problems(result: dict[str, Any]) -> list[str]:
    """Return why the run failed."""
    found = [f"lost: {one}" for one in result["lost"]]
    if result["verify"] != ["No problems found."]:
        found.append(f"verify: {result['verify'][:5]}")
    # 503 during a kill, a review of a match that is gone, and a product that an earlier, cut request deleted.
    expected = re.compile(r"connection$|\w[\w ]* 503 |(review|delete) 404 not_found$")
    found += [f"error: {code} ({count})" for code, count in result["errors"].items() if not expected.match(code)]
    for role, use in result["use"].items():
        if use["memory_3"] > MAX_MEMORY_GROWTH * use["memory_2"] + MEMORY_SLACK_MIB:
            found.append(f"memory of {role} grows: {use['memory_2']} to {use['memory_3']} MiB")
        if use["descriptors_3"] > MAX_DESCRIPTOR_GROWTH * use["descriptors_2"] + DESCRIPTOR_SLACK:
            found.append(f"descriptors of {role} grow: {use['descriptors_2']:.0f} to {use['descriptors_3']:.0f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kill-every", type=float, default=20, help="seconds between two kills; 0: never")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        Stack(Path(name)) as stack,
    ):
        result = run(stack, options.minutes, options.kill_every)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text)
    failures = problems(result)
    print("\n".join(failures) or "Nothing was lost, and nothing grows.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
