"""What stands before the routes: keys, rates, sizes, slow clients; and how the server starts, watches and ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tasks.lake.lake import Lake

from ..exports.runs import make_run
from ..serving.published import add, publish
from .running import HTTP, ROOT, Server, running

SECRET = "k-3f8a0c9d5e"
OTHER = "k-77aa12b0ff"
PATH = "/collections/made.plain/position?coords=POINT(5 52)&parameter-name=t2m"


def test_only_who_has_a_key_is_let_in_and_the_log_tells_nothing(api_lake: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{OTHER}\n")
    env = {**os.environ, "API_KEY": SECRET}
    flags = ("--key", "env:API_KEY", "--key", f"file:{tmp_path / 'key'}", "--rate", "30/minute")
    with running(str(api_lake), *flags, env=env) as server:
        url = f"{server.url}{PATH}"
        without = HTTP.get(url)
        assert without.status_code == 401
        assert without.headers["www-authenticate"] == "ApiKey"
        for headers in (
            {"X-API-Key": "wrong"}, {"X-API-Key": SECRET[:-1]}, {"X-API-Key": ""}, {"Authorization": f"Basic {SECRET}"},
        ):  # fmt: skip
            assert HTTP.get(url, headers=headers).status_code == 401
        assert HTTP.get(f"{url}&key={SECRET}").status_code == 401
        for headers in ({"X-API-Key": SECRET}, {"Authorization": f"Bearer {SECRET}"}, {"X-API-Key": OTHER}):
            answer = HTTP.get(url, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.headers["cache-control"].startswith("private")
        assert HTTP.get(f"{server.url}/health/live").status_code == 200
        assert HTTP.get(f"{server.url}/metrics").status_code == 401
        # Each key has a rate of its own, and those who try keys have one, too.
        used = [HTTP.get(url, headers={"X-API-Key": SECRET}).status_code for _ in range(30)]
        assert used.count(429) == 2
        assert HTTP.get(url, headers={"X-API-Key": OTHER}).status_code == 200
        tried = [HTTP.get(url, headers={"X-API-Key": f"guess{i}"}).status_code for i in range(30)]
        assert set(tried) == {401, 429}
        assert server.end() == 0
        log = "".join(server.log)
        assert '"client":"key 0"' in log
        for secret in (SECRET, OTHER, "coords"):
            assert secret not in log


def test_a_client_that_asks_too_often_is_told_how_long_to_wait(api_lake: Path) -> None:
    with running(str(api_lake), "--rate", "5/second") as server:
        answers = [server.get("/conformance") for _ in range(12)]
        refused = [a for a in answers if a.status_code == 429]
        assert refused
        assert int(refused[0].headers["retry-after"]) >= 1
        # A header that anybody can send does not make another client.
        for i in range(20):
            last = HTTP.get(f"{server.url}/conformance", headers={"X-Forwarded-For": f"10.0.0.{i}"})
        assert last.status_code == 429
        time.sleep(int(refused[0].headers["retry-after"]) + 1)
        assert server.get("/conformance").status_code == 200
        assert [server.get("/health").status_code for _ in range(12)] == [200] * 12


def raw(api: Server, data: bytes, seconds: float = 10) -> bytes:
    """What comes back for raw bytes, until the server closes or the time is over."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=seconds) as connection:
        connection.sendall(data)
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except TimeoutError:
            return found + b"[open]"
        return found


def test_a_large_body_is_refused_before_it_is_read(api: Server) -> None:
    head = b"POST /points HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    assert raw(api, head + b"Content-Length: 99999999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    chunk = b"10000\r\n" + b"[" * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            connection.sendall(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_endless_headers_are_refused(api: Server) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 1000) for i in range(80))
    assert raw(api, request + b"\r\n").startswith(b"HTTP/1.1 400")
    assert raw(api, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_slow_clients_are_left(api: Server) -> None:
    """The server of these tests gives them three seconds."""
    found: dict[str, bytes] = {}

    def attack(name: str, data: bytes) -> None:
        found[name] = raw(api, data, 8)

    first = b"GET /conformance HTTP/1.1\r\nHost: x\r\n"
    threads = [
        threading.Thread(target=attack, args=job)
        for job in (
            ("nothing", b""),
            ("half a header", first + b"X-A: "),
            ("half of a second request", first + b"\r\n" + first),
            ("half a body", b"POST /points HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["nothing"] == b""
    assert found["half a header"] == b""
    assert found["half of a second request"].startswith(b"HTTP/1.1 200")
    assert found["half a body"].startswith(b"HTTP/1.1 400")
    assert not any(answer.endswith(b"[open]") for answer in found.values())


def test_a_client_that_takes_nothing_gives_its_memory_back(api: Server) -> None:
    free = metric(api, "weatherlake_memory_free_bytes")
    query = "/collections/made.global/cube?bbox=0,-40,300,40&member=0&parameter-name=t2m,msl&f=JSON"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", api.port))
        connection.sendall(f"GET {query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait(lambda: metric(api, "weatherlake_memory_free_bytes") < free)
        wait(lambda: metric(api, "weatherlake_memory_free_bytes") == free)


def metric(api: Server, name: str) -> float:
    """One number of the server's metrics, as Prometheus' own parser reads it."""
    for family in text_string_to_metric_families(api.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name:
                return sample.value
    raise AssertionError(f"there is no {name}")


def wait(until, seconds: float = 20.0) -> None:
    """Until something is true."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_the_server_counts_what_it_does(api: Server) -> None:
    before = counted(api)
    for _ in range(3):
        assert HTTP.get(f"{api.url}{PATH}").status_code == 200
    assert api.get("/collections/none/position", coords="POINT(0 0)").status_code == 404
    after = counted(api)
    route = "/collections/{collection_id}/position"
    assert after[route, "200"] - before.get((route, "200"), 0) == 3
    assert after[route, "404"] - before.get((route, "404"), 0) == 1
    assert metric(api, "weatherlake_chunks_bytes") > 0
    line = next(json.loads(x) for x in reversed(api.log) if '"path":"/collections/none/position"' in x)
    assert line.items() >= {"status": 404, "method": "GET", "client": "127.0.0.1"}.items()


def counted(api: Server) -> dict[tuple[str, str], float]:
    return {
        (s.labels["route"], s.labels["status"]): s.value
        for family in text_string_to_metric_families(api.get("/metrics").text)
        for s in family.samples
        if s.name == "weatherlake_requests_total"
    }


def test_a_new_run_is_served_without_a_restart_and_never_a_mixture(tmp_path: Path) -> None:
    """Every run has one value everywhere; clients ask all the time while runs are published."""
    lake = Lake(str(tmp_path / "lake"))
    cube, structure = publish(lake, "regional", runs=(), levels=(), members=0)
    flat = make_run("regional", levels=(), members=0, nan=False) * 0
    add(cube, structure, 0, flat)
    done, problems, seen = threading.Event(), [], {}
    query = "/collections/made.grid/cube?bbox=-8,42,18,58&f=JSON"

    with running(str(lake.url), "--refresh", "0.2", "--rate", "none") as server:

        def client() -> None:
            with httpx.Client(verify=False, trust_env=False) as http:
                while not done.is_set():
                    answer = http.get(f"{server.url}{query}", timeout=60)
                    document = answer.json() if answer.status_code == 200 else {}
                    values = {float(v) for a in document.get("values", {}).values() for v in np.unique(a)}
                    # Runs are twelve hours apart and hold the number of their half day.
                    init = document.get("init_time", "")
                    expected = (int(init[8:10]) - 20) * 2 + (init[11:13] == "12") if init else -1
                    seen.setdefault(answer.headers.get("etag"), init)
                    if values != {float(expected)} or document["snapshot"] not in answer.headers["etag"]:
                        problems.append((answer.status_code, init, values))

        threads = [threading.Thread(target=client) for _ in range(2)]
        for thread in threads:
            thread.start()
        for index in range(1, 4):
            add(cube, structure, index, flat + index)
            wait(lambda i=index: f"{20 + i // 2}T{12 * (i % 2):02d}" in "".join(seen.values()))
        done.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert len(seen) == 4


def test_several_processes_share_the_work_and_count_together(api_lake: Path) -> None:
    with running(str(api_lake), "--workers", "2", "--rate", "none") as server:
        wait(lambda: sum("startup complete" in x for x in server.log) >= 2)
        for _ in range(24):
            assert HTTP.get(f"{server.url}{PATH}").status_code == 200
        totals = [sum(counted(server).values()) for _ in range(6)]
        assert totals == sorted(totals)
        assert totals[0] >= 24
        assert server.end() == 0


def test_a_request_under_way_is_answered_before_the_server_ends(api_lake: Path) -> None:
    with running(str(api_lake), "--rate", "none") as server:
        url = f"{server.url}/collections/made.global/cube?bbox=-180,-90,180,90&f=CSV"
        free = metric(server, "weatherlake_memory_free_bytes")
        found: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: found.append(HTTP.get(url)))
        thread.start()
        wait(lambda: metric(server, "weatherlake_memory_free_bytes") < free)
        server.process.send_signal(signal.SIGTERM)
        thread.join()
        assert found[0].status_code == 200
        assert found[0].text.count("\n") == 1 + 180 * 91 * 3 * 3
        assert server.process.wait(30) == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--lake", "NOWHERE"], "there is no lake"),
        (["--lake", "LAKE", "--rate", "often"], "--rate: a rate is written"),
        (["--lake", "LAKE", "--max-points", "0"], "--max-points"),
        (["--lake", "LAKE", "--key", "hunter2"], "named by a reference"),
        (["--lake", "LAKE", "--workers", "0"], "--workers"),
    ],
)
def test_what_is_wrong_with_the_flags_is_said_in_one_sentence(
    api_lake: Path, tmp_path: Path, flags: list[str], sentence: str
) -> None:
    given = [{"LAKE": str(api_lake), "NOWHERE": str(tmp_path)}.get(f, f) for f in flags]
    done = subprocess.run(
        [sys.executable, "-m", "deployments.api", "--port", "0", *given], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_lake_with_nothing_in_it_is_not_ready_until_something_is(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()
    with running(lake.url, "--refresh", "0.2") as server:
        assert server.get("/health/live").status_code == 200
        assert server.get("/health/ready").status_code == 503
        assert server.get("/collections").json()["collections"] == []
        publish(lake, "regional")
        wait(lambda: server.get("/health/ready").status_code == 200)
        assert server.get("/collections/made.grid/position", coords="POINT(5 52)").status_code == 200
