"""The station and the plain inspector, in one run; and the record after the station was killed.

    python benchmarks/station.py [--bundle B --images DIR] [--seconds 10] [--kill-parts 10000 --kills 5] [--json F]

Without a bundle a memory bank is trained on a small synthetic set. Server, clients and the plain inspector share this
machine's processors, and the plain inspector reads the same files. One client sends one part at a time, so it is
compared with the inspector called for one image at a time; several clients with the inspector's stream of batches.
"""

import argparse
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

PORT = 8097
COLUMNS = ("clients", "parts a second", "p50, ms", "p95, ms", "plain inspector", "ratio")
Row = dict[str, object]
SERVE = "import typer; from blemish.cli.serve import serve; typer.run(serve)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--images", type=Path, help="folder of PNG files, searched in its sub-folders too")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--kill-parts", type=int, default=0, help="parts to inspect while the station is killed")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--json", type=Path, help="append each row to this file")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, images = (given.bundle, given.images) if given.bundle else train(folder)
        files = sorted(images.rglob("*.png"))[:64]
        of = {"set": given.images.name if given.bundle else "rendered metal, 256 px"}
        rows += [of | row for row in throughput(folder, bundle, files, given.seconds, given.clients)]
        if given.kill_parts:
            rows.append(killed(folder, bundle, files, given.kill_parts, given.kills))
    if given.json is not None:
        with given.json.open("a") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    last = rows[-1]
    if "kills" in last and (last["doubled"] or last["lost or changed"] or last["answered"] != given.kill_parts):
        raise SystemExit(1)


def train(folder: Path) -> tuple[Path, Path]:
    from blemish.synthesis.synthetic_set import SetSize, write_synthetic
    from blemish.training.train import train as fit

    write_synthetic(folder / "data", ("metal",), SetSize(40, 16, 4), 256, 0)
    options = {"image_size": 256, "coreset_ratio": 0.02}
    fit(
        str(folder / "data"),
        out=folder / "run",
        method="patchcore",
        options=options,
        progress=False,
    )
    return folder / "run", folder / "data"


def throughput(folder: Path, bundle: Path, files: list[Path], seconds: float, clients: list[int]) -> list[Row]:
    single, stream = [], []
    rows = []
    for count in clients:
        single.append(plain(bundle, files, seconds / 2, one_by_one=True))
        stream.append(plain(bundle, files, seconds / 2, one_by_one=False))
        server = start(folder / f"station{count}", bundle)
        try:
            load(files, count, 2.0)  # warm
            rows.append((count, *load(files, count, seconds)))
        finally:
            stop(server)
    one, many = statistics.median(single), statistics.median(stream)
    table = Table(*COLUMNS)
    found: list[Row] = []
    for count, rate, p50, p95 in rows:
        peer = one if count == 1 else many
        values = (count, round(rate, 1), round(p50, 1), round(p95, 1), round(peer, 1), round(rate / peer, 2))
        found.append(dict(zip(COLUMNS, values, strict=True)))
        table.add_row(*map(str, values))
    console = Console()
    console.print(table)
    console.print(f"plain inspector: {one:.1f} a second one at a time, {many:.1f} as a stream", highlight=False)
    return found


def plain(bundle: Path, files: list[Path], seconds: float, one_by_one: bool) -> float:
    """Images a second."""
    from blemish import Inspector

    inspector = Inspector.open(bundle)
    found = map(inspector.inspect, cycle(files)) if one_by_one else inspector.inspect(cycle(files))
    for _ in islice(found, 16):
        pass
    begin, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        next(found)
        count += 1
    return count / passed


def start(folder: Path, bundle: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", SERVE, "--data", str(folder), "--bundle", str(bundle), "--port", str(PORT)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while True:
        try:
            if request("GET", "/readyz")[0] == 200:
                return server
        except OSError:
            if server.poll() is not None:
                raise SystemExit("the station did not start") from None
        time.sleep(0.1)


def stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    server.wait(60)


def request(method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def form(content: bytes, part_id: str) -> tuple[bytes, str]:
    mark = uuid.uuid4().hex
    start = f'--{mark}\r\nContent-Disposition: form-data; name="part_id"\r\n\r\n{part_id}\r\n'
    start += f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'
    return start.encode() + content + f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def send(connection: http.client.HTTPConnection, content: bytes, part_id: str) -> tuple[int, bytes]:
    body, kind = form(content, part_id)
    connection.request("POST", "/v1/inspections", body, {"Content-Type": kind, "Idempotency-Key": part_id})
    answer = connection.getresponse()
    return answer.status, answer.read()


def load(files: list[Path], clients: int, seconds: float) -> tuple[float, float, float]:
    """Parts a second, and the median and 95th percentile of latency in ms."""
    contents = [file.read_bytes() for file in files]
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        for content in islice(cycle(contents), number * 7, None):
            begin = time.perf_counter()
            if begin >= until:
                return
            status, body = send(connection, content, uuid.uuid4().hex)
            if status != 200:
                raise SystemExit(f"{status}: {body[:300]!r}")
            latencies.append(1000 * (time.perf_counter() - begin))

    begin = time.perf_counter()
    together(client, clients)
    cuts = statistics.quantiles(latencies, n=20)
    return len(latencies) / (time.perf_counter() - begin), cuts[9], cuts[18]


def together(client: Callable[[int], None], clients: int) -> None:
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def killed(folder: Path, bundle: Path, files: list[Path], parts: int, kills: int) -> Row:
    """Kill the station at random; then every answered part must be in the record exactly once, as it was answered."""
    data = folder / "killed"
    contents = [file.read_bytes() for file in files]
    answers: dict[str, tuple[int, str]] = {}
    numbers = iter(range(parts))
    lock = threading.Lock()
    servers = [start(data, bundle)]

    def client(_: int) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            while (answer := attempt(contents[number % len(contents)], f"part-{number}")) is None:
                time.sleep(0.05)
            answers[f"part-{number}"] = answer

    def killer() -> None:
        for turn in range(kills):
            due = parts * (turn + random.uniform(0.1, 0.9)) / kills
            while len(answers) < due:
                time.sleep(0.01)
            servers[-1].kill()
            servers[-1].wait()
            servers.append(start(data, bundle))

    killing = threading.Thread(target=killer)
    killing.start()
    together(client, 8)
    killing.join()
    recorded = read_record()
    stop(servers[-1])
    counts, known = Counter(part for part, _ in recorded), set(recorded)
    doubled = [part for part, count in counts.items() if count > 1]
    wrong = [part for part, answer in answers.items() if (part, answer) not in known]
    print(f"{len(answers)} parts answered, {len(servers) - 1} kills, {len(recorded)} in the record; "
          f"{len(doubled)} doubled, {len(wrong)} answered parts missing or other than answered")  # fmt: skip
    return {
        "kills": len(servers) - 1,
        "parts": parts,
        "answered": len(answers),
        "in the record": len(recorded),
        "doubled": len(doubled),
        "lost or changed": len(wrong),
    }


def attempt(content: bytes, part_id: str) -> tuple[int, str] | None:
    """The answer to a part, or None where there was none."""
    try:
        status, body = send(http.client.HTTPConnection("127.0.0.1", PORT, timeout=60), content, part_id)
    except (OSError, http.client.HTTPException):
        return None
    found = json.loads(body)
    return (found["id"], found["verdict"]) if status == 200 else None


def read_record() -> list[tuple[str, tuple[int, str]]]:
    found, before = [], ""
    while True:
        page = json.loads(request("GET", f"/v1/inspections?limit=500{before}")[1])
        found += [(row["part_id"], (row["id"], row["verdict"])) for row in page["items"]]
        if page["next"] is None:
            return found
        before = f"&before={page['next']}"


if __name__ == "__main__":
    main()
