"""Plan a scan on many machines from what was measured: hours, memory, storage, cost.

    python benchmarks/many_machines.py --pictures 15000000 --machines 10 --price 0.10

Reads throughput.csv (pictures per second of one machine), scan_memory.csv and engines.csv (what Ray costs in time and
memory, bytes of results and pictures) beside it; nothing is measured here. A machine is one like the one these files
were measured on; with --cores of another number, rate and memory grow in proportion, which was not measured.
--write FILE puts the plan into a page, between the lines `<!-- plan -->` and `<!-- end of plan -->`.
"""

from __future__ import annotations

import argparse
import csv
import re
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNIT = 500
"""Pictures of a unit of work, unless --unit says otherwise."""
MARKS = re.compile(r"(?s)(<!-- plan -->\n).*?(<!-- end of plan -->)")


def measured(name: str, **where: str) -> tuple[float | None, dict[str, str]]:
    """Return the number of the row with these columns (None where it was not measured), and the comment lines."""
    if not (HERE / name).is_file():
        return None, {}
    with (HERE / name).open(encoding="utf-8") as stream:
        lines = stream.readlines()
    said = dict(line[2:].rstrip().split(": ", 1) for line in lines if line.startswith("# ") and ": " in line)
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        if all(row[key] == value for key, value in where.items()):
            return float(row.get("median") or row.get("value") or row["peak_pss_mib"]), said
    return None, said


def plan(pictures: float, machines: int, cores: int | None, price: float) -> list[tuple[str, str, str]]:
    """Return rows: what, how much, how it follows."""
    rate, said = measured("throughput.csv", pipeline="faceproof", measure="pictures/s, steady")
    found = re.search(r"(\d+) cores", said.get("cpu", ""))
    if found is None or rate is None:
        raise SystemExit("throughput.csv does not say how fast how many cores were; run benchmarks/throughput.py")
    own = int(found[1])
    many = cores or own
    ratio = measured("engines.csv", engine="ray", measure="seconds / plain's")[0]
    peak = measured("engines.csv", engine="ray", measure="peak MiB")[0]
    held = measured("scan_memory.csv", output=".parquet", pictures="20000")[0] if peak is None else peak
    each = measured("engines.csv", engine="ray", measure="bytes/record")[0]
    size = measured("engines.csv", engine="pictures", measure="bytes/picture")[0]
    speed = rate * many / own / (ratio or 1.0)
    hours = pictures / (speed * machines) / 3600
    mark = "" if many == own else f", times {many}/{own} cores"
    cost = "; what Ray costs was not measured yet" if ratio is None else f", over {ratio:g} (engines.csv)"
    memory = "a scan without an engine, scan_memory.csv" if peak is None else "engines.csv"
    unknown = "not measured yet: benchmarks/engines.py"
    room = "unknown" if held is None else f"{held * many / own / 1024:.1f} GiB"
    stored = "unknown" if each is None else f"{pictures * each / 1e9:.1f} GB in {-(-pictures // UNIT):,.0f} parts"
    read = "unknown" if size is None else f"{pictures * size / 1e9:,.0f} GB, {speed * size / 1e6:.1f} MB/s a machine"
    return [
        ("one machine", f"{speed:.0f} pictures/s", f"{rate:g} (throughput.csv){mark}{cost}"),
        ("time", f"{hours:.1f} hours", f"{pictures:,.0f} pictures on {machines} machines"),
        ("checked again when a machine dies", f"{UNIT * many / speed:.0f} s of its work", f"a unit of {UNIT} a core"),
        ("memory of a machine", room, f"{held or 0:.0f} MiB ({memory}){mark}"),
        ("results", stored, unknown if each is None else f"{each:.0f} bytes each (engines.csv)"),
        ("pictures read", read, unknown if size is None else f"{size / 1000:.1f} kB a picture, as in the benchmark"),
        ("cost", f"{hours * machines * price:.2f}", f"{hours * machines:.1f} machine hours at {price:.2f}"),
    ]


def table(rows: list[tuple[str, str, str]]) -> str:
    lines = ["| what | how much | from |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=float, default=15e6)
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--cores", type=int, help="of a machine (as the one measured)")
    parser.add_argument("--price", type=float, default=0.10, help="of a machine for an hour, in any currency (0.10)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="page whose plan is to be replaced")
    given = parser.parse_args()
    if min(given.pictures, given.machines, given.cores or 1) < 1 or given.price < 0:
        parser.error("pictures, machines and cores are at least 1, the price is not negative")
    text = table(plan(given.pictures, given.machines, given.cores, given.price))
    if given.write is None:
        print(text, end="")
        return
    shown = [word for word in sys.argv[1:] if word not in ("--write", str(given.write))]
    block = f"`{shlex.join(['python', 'benchmarks/many_machines.py', *shown])}` says:\n\n{text}"
    page = given.write.read_text(encoding="utf-8")
    given.write.write_text(MARKS.sub(lambda found: found[1] + block + found[2], page), encoding="utf-8")


if __name__ == "__main__":
    main()
