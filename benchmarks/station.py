"""The station and the plain inspector, in turns in one run; and the record after the station was killed.

    python benchmarks/station.py [--bundle B --images DIR] [--seconds 20] [--sides 256 448] [--json F]
    python benchmarks/station.py --clients --kill-parts 10000 --kills 100 [--json F]
    python benchmarks/station.py --clients --sides 256 --soak 60 [--json F]

Without a bundle a memory bank is trained for each side of a small synthetic set. Server, clients and the plain
inspector share this machine's processors, and the plain inspector reads the same files. They run in turns, two seconds
each, in which both finish what they began, and the ratio is the median of those of neighbouring turns, so that it holds
on a machine with other work too. One client sends one part at a time, so it is compared with the inspector called for
one image at a time; several clients with the inspector's stream of batches.

The soak sends parts at half of the rate that the station reaches, for so many minutes, and measures the resident memory
and the open files of its process; the slope is that of a straight line through all but the first sixth of the time.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from blemish import Inspector

PORT = 8097
COLUMNS = ("clients", "parts a second", "p50, ms", "p95, ms", "plain inspector", "ratio", "ms an image", "service, ms")
TURN_S = 2.0
SOAK_CLIENTS, SOAK_SAMPLE_S = 4, 10.0
Row = dict[str, object]
SERVE = "import typer; from blemish.cli.serve import serve; typer.run(serve)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--images", type=Path, help="folder of PNG files, searched in its sub-folders too")
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 448], help="of the images, in px")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--kill-parts", type=int, default=0, help="parts to inspect while the station is killed")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument(
        "--soak", type=float, default=0, help="minutes at half load; memory and open files are measured"
    )
    parser.add_argument("--json", type=Path, help="append each row to this file")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in [0] if given.bundle else given.sides:
            bundle, images = (given.bundle, given.images) if given.bundle else train(folder / str(side), side)
            files = sorted(images.rglob("*.png"))[:64]
            of = {"set": given.images.name if given.bundle else f"rendered metal, {side} px"}
            rows += [of | throughput(folder, bundle, files, given.seconds, count) for count in given.clients]
        show(rows)
        if given.soak:
            rows.append(soak(folder, bundle, files, 60 * given.soak))
        if given.kill_parts:
            rows.append(killed(folder, bundle, files, given.kill_parts, given.kills))
    if given.json is not None:
        with given.json.open("a") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    last = rows[-1] if rows else {}
    if "kills" in last and (last["doubled"] or last["lost or changed"] or last["answered"] != given.kill_parts):
        raise SystemExit(1)


def train(folder: Path, side: int) -> tuple[Path, Path]:
    from blemish.synthesis.synthetic_set import SetSize, write_synthetic
    from blemish.training.train import train as fit

    write_synthetic(folder / "data", ("metal",), SetSize(40, 16, 4), side, 0)
    options = {"image_size": side, "coreset_ratio": 0.02}
    fit(
        str(folder / "data"),
        out=folder / "run",
        method="patchcore",
        options=options,
        refine="off",  # how regions are drawn is not what is measured
        progress=False,
    )
    return folder / "run", folder / "data"


def throughput(folder: Path, bundle: Path, files: list[Path], seconds: float, clients: int) -> Row:
    """Turns of the plain inspector and of the station."""
    from blemish import Inspector

    inspector = Inspector.open(bundle)
    server = start(folder / f"station-{uuid.uuid4().hex}", bundle)
    plain, served, ratios, latencies = [], [], [], []
    used, parts = 0.0, 0
    try:
        plain_rate(inspector, files, clients, TURN_S)  # warm
        load(files, clients, TURN_S)
        for _ in range(max(1, round(seconds / (2 * TURN_S)))):
            plain.append(plain_rate(inspector, files, clients, TURN_S))
            before = processor_s(server)
            rate, more = load(files, clients, TURN_S)
            used, parts = used + processor_s(server) - before, parts + len(more)
            served.append(rate)
            latencies += more
            ratios.append(rate / plain[-1])
    finally:
        stop(server)
    begin = time.process_time()
    alone = [inspector.inspect(file) for file in files]
    image_ms = 1000 * (time.process_time() - begin) / len(alone)
    cuts = statistics.quantiles(latencies, n=20)
    values = (
        clients, round(statistics.median(served), 1), round(cuts[9], 1), round(cuts[18], 1),
        round(statistics.median(plain), 1), round(statistics.median(ratios), 2), round(image_ms, 1),
        round(1000 * used / parts - image_ms, 1),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def plain_rate(inspector: "Inspector", files: list[Path], clients: int, seconds: float) -> float:
    """Images a second. As with the clients, what was begun is finished: otherwise batches that are still in work would
    take the processors in the other's turn, and be counted in the next one."""
    begin = time.perf_counter()

    def until_the_end() -> Iterator[Path]:
        for file in cycle(files):
            if time.perf_counter() - begin >= seconds:
                return
            yield file

    found = map(inspector.inspect, until_the_end()) if clients == 1 else inspector.inspect(until_the_end())
    count = sum(1 for _ in found)
    return count / (time.perf_counter() - begin)


def processor_s(server: "subprocess.Popen[bytes]") -> float:
    """Processor time of the server, all of its threads, in seconds."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(rows: list[Row]) -> None:
    table = Table("set", *COLUMNS)
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("set", *COLUMNS)))
    Console().print(table)


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


def send(connection: http.client.HTTPConnection, content: bytes, part_id: str) -> tuple[int, bytes]:
    headers = {"Content-Type": "image/png", "Idempotency-Key": part_id}
    connection.request("POST", f"/v1/inspections?part_id={part_id}", content, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def load(files: list[Path], clients: int, seconds: float, every_s: float = 0.0) -> tuple[float, list[float]]:
    """Parts a second, and the latencies in ms; each client begins a part every `every_s`, or when the last is done."""
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
            time.sleep(max(0.0, begin + every_s - time.perf_counter()))

    begin = time.perf_counter()
    together(client, clients)
    return len(latencies) / (time.perf_counter() - begin), latencies


def together(client: Callable[[int], None], clients: int) -> None:
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def soak(folder: Path, bundle: Path, files: list[Path], seconds: float) -> Row:
    """Parts at half of the full rate for some time: the slope of the memory, and open files at both ends."""
    server = start(folder / "soak", bundle)
    try:
        load(files, SOAK_CLIENTS, TURN_S)  # warm
        full, _ = load(files, SOAK_CLIENTS, 5 * TURN_S)
        begin, samples = time.perf_counter(), []
        sending = threading.Thread(target=load, args=(files, SOAK_CLIENTS, seconds, 2 * SOAK_CLIENTS / full))
        sending.start()
        while sending.is_alive():
            samples.append((time.perf_counter() - begin, *usage(server)))
            sending.join(timeout=min(SOAK_SAMPLE_S, seconds / 30))
        recorded = json.loads(request("GET", "/v1/inspections?limit=1")[1])["total"]
    finally:
        stop(server)
    kept = [sample for sample in samples if sample[0] >= seconds / 6]
    times, sizes = [sample[0] for sample in kept], [sample[1] for sample in kept]
    slope = 3600 * statistics.linear_regression(times, sizes).slope / statistics.mean(sizes)
    row: Row = {
        "soak, min": round(seconds / 60, 1),
        "parts": recorded,
        "parts a second": round(full / 2, 1),
        "memory, MB": round(statistics.mean(sizes) / 1e6),
        "memory, % an hour": round(100 * slope, 1),
        "open files, first": kept[0][2],
        "open files, last": kept[-1][2],
        "open files, most": max(sample[2] for sample in kept),
    }
    print(", ".join(f"{name}: {value}" for name, value in row.items()))
    return row


def usage(server: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Resident memory of the server in bytes, and its number of open files."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{server.pid}/fd"))


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
