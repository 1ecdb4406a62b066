"""Abuse: whatever is sent, the answer is no 5xx, and the server's memory stays within bounds."""

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from .running import HTTP, Server, running

POSITION = "/collections/made.plain/position"
# ruff: noqa: E501
_NASTY = [
    "/collections/../../etc/passwd", "/collections/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/collections/..%2f..%2f/position",
    "/collections/made.plain%00/position?coords=POINT(0 0)", "/collections/%00", "/collections/made.plain/instances/%2e%2e",
    "/collections/made.plain/instances/2026-11-20T00%2f..%2f..%2flake.json/position?coords=POINT(0 0)",
    "/collections/" + "a" * 5000, "/collections//position", "//collections", "/%ff%fe", "/collections/%f0%9f%8c%a9",
    f"{POSITION}?coords=POINT(NaN NaN)", f"{POSITION}?coords=POINT(inf -inf)", f"{POSITION}?coords=POINT(1e999 0)",
    f"{POSITION}?coords=POINT(0 0)&coords=POINT(1 1)", f"{POSITION}?coords=", f"{POSITION}?coords=%00",
    f"{POSITION}?coords=POINT(0%200)%00", f"{POSITION}?coords=POINT(0 0 0 0 0)", f"{POSITION}?coords=GEOMETRYCOLLECTION EMPTY",
    f"{POSITION}?coords=POINT(0 0)&z=1e999", f"{POSITION}?coords=POINT(0 0)&datetime=%00", f"{POSITION}?coords=SRID=1;POINT(0 0)",
    f"{POSITION}?coords=POINT(0 0)&datetime=2026-11-20T00:00:00Z/2026-11-19", f"{POSITION}?coords=POINT(0 0)&parameter-name=,,",
    f"{POSITION}?coords=POINT(0 0)&datetime=-0001-01-01/0000", f"{POSITION}?coords=POINT(0 0)&f=%F0%9F%8C%A9",
    "/collections/made.global/position?coords=POINT(0 0)&z=e/e", "/collections/made.global/position?coords=POINT(0 0)&z=NaN",
    "/collections/made.global/position?coords=POINT(0 0)&member=99999999999999999999",
    "/collections/made.global/area?coords=POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))",
    "/collections/made.plain/area?coords=POLYGON((0 0,1 1))", "/collections/made.plain/area?coords=POLYGON EMPTY",
    "/collections/made.plain/area?coords=POLYGON((-540 -90,540 -90,540 90,-540 90,-540 -90))",
    "/collections/made.global/cube?bbox=-180,-90,180,90", "/collections/made.plain/cube?bbox=0,0,0,0,0,0",
    "/collections/made.plain/cube?bbox=1e308,-1e308,1e308,1e308", "/collections/made.plain/cube?bbox=NaN,NaN,NaN,NaN",
    "/collections/made.global/cube?bbox=0,0,1e1000,1,1,1", "/collections/made.global/cube?bbox=0,0,nan,4,4,9",
    "/points", "/metrics/../points",
]  # fmt: skip

_BODIES: list[bytes] = [
    b"", b"null", b"[]", b"{}", b"{", b"\x00", b"\xff\xfe", b"[" * 100_000, b'{"collection": 1, "points": []}',
    b'{"collection": "made.plain", "points": [{"latitude": NaN, "longitude": 0}]}',
    b'{"collection": "made.plain", "points": [{"latitude": 1e999, "longitude": 0}]}',
    b'{"collection": "made.plain", "points": [{"latitude": 0, "longitude": -Infinity}]}',
    b'{"collection": "made.plain", "points": [{"latitude": "0", "longitude": [0]}]}',
    b'{"collection": "../..", "points": [{"latitude": 0, "longitude": 0}]}',
    b'{"collection": "made.plain", "points": [{"latitude": 0, "longitude": 0}], "parameter-name": ["", "\\u0000", "t2m,tp"]}',
    b'{"collection": "made.plain", "points": [{"latitude": 0, "longitude": 0, "name": "\\ud800"}]}',
    b'{"collection": "made.plain", "points": [' + b",".join([b'{"latitude":1,"longitude":2}'] * 8000) + b"]}",
]  # fmt: skip


@pytest.mark.parametrize("path", _NASTY, ids=range(len(_NASTY)))
def test_a_nasty_request_is_refused(api: Server, path: str) -> None:
    # As it stands: httpx would tidy up the path.
    target = quote(path, safe="/%?=&(),.:;-+")
    answer = HTTP.get(httpx.URL(api.url).copy_with(raw_path=target.encode()), timeout=30)
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert set(answer.json()) == {"code", "description"}


@pytest.mark.parametrize("body", _BODIES, ids=range(len(_BODIES)))
def test_a_nasty_body_is_refused(api: Server, body: bytes) -> None:
    answer = HTTP.post(f"{api.url}/points", content=body, headers={"Content-Type": "application/json"}, timeout=30)
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert set(answer.json()) == {"code", "description"}


def test_ten_thousand_ids_are_ten_thousand_refusals_and_one_line_in_the_metrics(api: Server) -> None:
    with httpx.Client(verify=False, trust_env=False) as http:
        # Half of them in one request, which is too long a list; the others one by one, 200 of them.
        names = ",".join(f"v{i}" for i in range(10_000))
        assert http.get(f"{api.url}{POSITION}?coords=POINT(0 0)&parameter-name={names}").status_code == 400
        found = Counter(
            http.get(f"{api.url}/collections/made.{i}/position?coords=POINT(0 0)").status_code for i in range(200)
        )
        assert found == {404: 200}
        routes = {
            x.split('"')[1]
            for x in http.get(f"{api.url}/metrics").text.splitlines()
            if x.startswith("weatherlake_requests_total{")
        }
    assert not any("made." in route for route in routes)


_REACH = {
    "coords": r"^POINT\(-?[0-9]{1,2}(\.[0-9]{1,3})? -?[0-9]{1,2}(\.[0-9]{1,3})?\)$",
    "bbox": r"^-?[0-9]{1,3},-?[0-9],-?[0-9]{1,3},[0-9]{1,2}$",
    "datetime": r"^2026-11-2[0-2]T(00|06|12|18):00:00Z(/\.\.)?$",
    "parameter-name": r"^(t2m|tp|msl)(,(t2m|tp))?$",
    "collection": r"^made\.(plain|global|lambert|regional)$",
}
"""What requests look like that get as far as the data; the document itself does not say it so narrowly."""


def fuzz(server: Server, folder: Path, examples: int, seconds: int) -> None:
    """schemathesis on the server's own OpenAPI document, as it is and with parameters that mostly reach the data: no
    5xx, and nothing that the document does not say."""
    document = HTTP.get(f"{server.url}/openapi.json").json()
    plain = folder / "plain.json"
    plain.write_text(json.dumps(document))
    polygon = r"^POLYGON\(\(-?[1-9] 2,1[0-9] 3,1[0-9] 1[0-9],-?[1-9] 2\)\)$"
    for path, item in document["paths"].items():
        for parameter in (p for operation in item.values() for p in operation.get("parameters", ())):
            pattern = (
                polygon if path.endswith("/area") and parameter["name"] == "coords" else _REACH.get(parameter["name"])
            )
            if pattern:
                parameter["schema"] = {"type": "string", "pattern": pattern}
    document["components"]["schemas"]["ManyPoints"]["properties"]["collection"]["pattern"] = _REACH["collection"]
    reach = folder / "reach.json"
    reach.write_text(json.dumps(document))
    for schema in (plain, reach):
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", str(schema), "--url", server.url,
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            "--max-examples", str(examples), "--workers", "2", "--request-timeout", "30", "--seed", "1", "--no-color",
            "--phases", "examples,coverage,fuzzing", "--generation-database", "none",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stdout[:3000] + done.stdout[-3000:] + done.stderr[-1000:]


def test_schemathesis_finds_nothing(api: Server, tmp_path: Path) -> None:
    before = len(api.log)
    fuzz(api, tmp_path, 2, 250)
    answers = Counter(json.loads(x)["status"] for x in api.log[before:] if x.startswith('{"time"'))
    assert answers[200] > 50, "hardly a request got as far as the data"


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_many_tries(api: Server, tmp_path: Path) -> None:
    fuzz(api, tmp_path, 40, 280)


def resident(pid: int) -> float:
    """MB of memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(x for x in status if x.startswith("VmRSS")).split()[1]) / 1e3


@pytest.mark.slow
def test_memory_stays_within_bounds(api_lake: Path) -> None:
    """Many clients ask for the largest answers there are, and for the oddest things, all at once."""
    flags = ("--rate", "none", "--memory-mb", "100", "--cache-mb", "20", "--max-values", "1000000")
    with running(str(api_lake), *flags) as server:
        whole = "/collections/made.plain/cube?bbox=-180,-90,180,90&f=CSV"
        assert HTTP.get(f"{server.url}{whole}", timeout=60).status_code == 200
        before, most, found = resident(server.process.pid), [0.0], Counter[int]()
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                most[0] = max(most[0], resident(server.process.pid))

        def client(seed: int) -> None:
            rng = random.Random(seed)
            with httpx.Client(verify=False, trust_env=False, timeout=60) as http:
                for _ in range(12):
                    form = rng.choice(["CSV", "JSON", "CoverageJSON"])
                    path = rng.choice(
                        [
                            f"{whole[:-3]}{form}",
                            f"/collections/made.plain/area?coords=POLYGON((-170 -80,170 -80,170 80,-170 -80))&f={form}",
                        ]
                    )
                    found[http.get(f"{server.url}{path}").status_code] += 1

        watcher = threading.Thread(target=watch)
        watcher.start()
        clients = [threading.Thread(target=client, args=(i,)) for i in range(16)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        done.set()
        watcher.join()
    assert set(found) <= {200, 503}
    assert found[200] > 50
    # The budget, the cache, and what the interpreter and malloc keep beside them.
    assert most[0] - before < 300, f"{before:.0f} MB before, {most[0]:.0f} MB at most"
