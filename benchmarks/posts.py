"""Time and memory of `faceproof posts` by the number of posts: `python benchmarks/posts.py --posts 10000 100000`.

Made-up posts: 70 % sentences of their own from a large vocabulary, 20 % of 200 subjects with words in common, 10 %
copies of 50 texts with one word changed. Every size runs in a process of its own; its peak memory is the system's
figure, in which the file of vectors counts (1.5 kB a text) as far as the system keeps it in memory.
"""

from __future__ import annotations

import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, say, write_results


def make(path: Path, count: int) -> None:
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("aaeeiioubcdfghlmnprstw", k=rng.randint(3, 9))) for _ in range(30_000)]
    subjects = [rng.sample(vocabulary, 25) for _ in range(200)]
    copied = [rng.sample(vocabulary, 15) for _ in range(50)]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "account", "time", "text"])
        for n in range(count):
            kind = rng.random()
            words = rng.sample(vocabulary, 15)
            if kind < 0.2:
                words = rng.sample(rng.choice(subjects), 12)
            elif kind < 0.3:
                words = list(rng.choice(copied))
                words[rng.randrange(15)] = rng.choice(vocabulary)
            writer.writerow([n, n % (count // 10), 1.7e9 + rng.random() * 86400 * 30, " ".join(words)])


def one(path: str, encoder: str) -> None:
    from faceproof.post_records import PostOptions
    from faceproof.posts import open_analysis

    steps: dict[str, float] = {}
    last = time.perf_counter()

    def step(what: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.perf_counter()
        steps[what] = steps.get(what, 0.0) + now - last
        last = now

    start = time.perf_counter()
    with open_analysis(path, PostOptions(encoder=encoder), progress=step) as (report, _):
        found = {"posts": report.posts, "clusters": len(report.clusters), "copies": len(report.copies)}
    found |= {"encoder": encoder, "seconds": round(time.perf_counter() - start, 1)}
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    found |= {"cpu_seconds": round(cpu.ru_utime + cpu.ru_stime, 1), "peak_mib": cpu.ru_maxrss // 1024}
    found |= {f"{what}_seconds": round(value, 1) for what, value in steps.items()}
    print(json.dumps(found))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--posts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--encoder", nargs="+", default=["words"])
    parser.add_argument("--one", nargs=2)
    args = parser.parse_args()
    if args.one:
        one(*args.one)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posts.csv"
        for count in args.posts:
            make(path, count)
            for encoder in args.encoder:
                command = [sys.executable, __file__, "--one", str(path), encoder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout))
                say(done.stdout.strip())
    write_results(args.results / "posts.csv", rows)


if __name__ == "__main__":
    main()
