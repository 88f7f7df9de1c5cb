"""A study from tables and a folder of pictures to a folder of results; a stopped one goes on with its scan."""

from __future__ import annotations

import contextlib
import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from faceproof.accounts import Accounts, Pictures, read_accounts
from faceproof.duplicates import HashOptions
from faceproof.errors import OutputError, UsageError
from faceproof.flags import Tally
from faceproof.hash_files import find_duplicates, hash_to_file, open_hashes
from faceproof.hashing import RADII
from faceproof.images import printable
from faceproof.inputs import Inputs
from faceproof.post_records import PostOptions, PostReport
from faceproof.posts import open_analysis
from faceproof.posts_report import origin, write_posts_tables
from faceproof.posts_report import page as posts_page
from faceproof.pseudonyms import Pseudonyms
from faceproof.reports import open_results, read_results, scan_to_file
from faceproof.rows import Problem, Table
from faceproof.scan import Options
from faceproof.study import Study, Texts, join_clusters, join_posts, join_records, labelled, make_study, sample
from faceproof.study_report import page, write_sample, write_tables
from faceproof.tables import spreadsheet_safe, write_atomically

__all__ = ["Outcome", "Plan", "ProblemLog", "run_study"]

Progress = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class Plan:
    """What to study, and where to write.

    Attributes:
        accounts: table. out: folder.
        pictures: folder to scan, or None with `results`, a file that a scan wrote.
        clusters: CSV of `faceproof duplicates`, or None to look for copies among `pictures` with its defaults.
        posts: table. labels: `label_me.csv`, filled in.
        scan: how pictures are checked. post_options: how posts are looked at.
        prevalence: share of generated faces to assume for what a flag is worth; None for none.
        columns: role -> column of the table of accounts.
        as_of: seconds since 1970 at which ages are counted.
        minimum: accounts of a campaign. sample: accounts to label of each stratum.
        names: what stands for ids. show_faces: do not blur the faces on the page.
        workers: processes of the scan.

    Raises:
        UsageError: neither or both of `pictures` and `results`.
    """

    accounts: str
    out: Path
    pictures: str | None = None
    results: str | None = None
    clusters: str | None = None
    posts: str | None = None
    labels: str | None = None
    scan: Options = field(default_factory=Options)
    post_options: PostOptions = field(default_factory=PostOptions)
    prevalence: float | None = None
    columns: dict[str, str] = field(default_factory=dict)
    as_of: float | None = None
    minimum: int = 3
    sample: int = 200
    names: Pseudonyms = field(default_factory=Pseudonyms)
    show_faces: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.pictures is None and self.results is None:
            raise UsageError("no pictures; give --pictures DIR to scan, or --results FILE of a scan")


@dataclass(frozen=True)
class Outcome:
    """A study, what was wrong with rows (kind -> how often), and the posts' report."""

    study: Study
    problems: dict[str, int]
    posts: PostReport | None


class ProblemLog:
    """Counts problems and writes each into problems.csv, so that memory stays flat."""

    def __init__(self, path: Path, *, private: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._path, self._private = path, private
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> ProblemLog:
        try:
            self._stream = self._temporary.open("w", newline="", encoding="utf-8")
        except OSError as err:
            raise OutputError(f"cannot write {self._path} ({err.strerror or err}); check the folder") from err
        self._writer = csv.writer(self._stream, lineterminator="\n")
        self._writer.writerow(["table", "row", "problem", "detail"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stream.close()
        with contextlib.suppress(OSError):
            if kind is None:
                os.replace(self._temporary, self._path)
            self._temporary.unlink(missing_ok=True)

    def of(self, table: str) -> Callable[[Problem], None]:
        """Return what is to be called with the problems of a table."""

        def say(problem: Problem) -> None:
            self.counts[f"{table}: {problem.kind}"] += 1
            detail = "" if self._private else spreadsheet_safe(problem.detail)
            self._writer.writerow([table, problem.row, problem.kind, detail])

        return say


def run_study(plan: Plan, *, progress: Progress = lambda what, done, total: None) -> Outcome:
    """Do the study and write it: study.html, posts.html, tables; scan.jsonl, hashes.jsonl and clusters.csv of pictures.

    Raises:
        UsageError, ModelError, MissingExtraError, OutputError: as the parts of it.
    """
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"cannot make the folder {plan.out} ({err.strerror or err}); check its place") from err
    tally = Tally(plan.scan.model, plan.scan.fpr, plan.prevalence)
    with ProblemLog(plan.out / "problems.csv", private=plan.names.active) as log:
        progress("accounts", 0, None)
        now = plan.post_options.now
        accounts = read_accounts(plan.accounts, columns=plan.columns, now=now, on_problem=log.of("accounts"))
        pictures = Pictures(accounts, plan.pictures)
        for name, count in pictures.ambiguous.items():
            log.of("accounts")(Problem(0, "file name of several pictures", f"{name}: {count} accounts"[:200]))
        if plan.clusters is not None:
            _exists(plan.clusters)
        results = plan.results or _scanned(plan, progress)
        copies = plan.clusters or _clustered(plan, progress)
        seen = join_records(accounts, pictures, read_results(results), tally, log.of("pictures"))
        clusters = {} if copies is None else join_clusters(copies, pictures, log.of("clusters"))
        hand = None
        if plan.labels is not None:
            back = {plan.names.of(name): number for name, number in accounts.index.items()}
            hand = labelled(plan.labels, seen, back.get, log.of("labels"))
        with _texts(plan, accounts, log, progress) as (report, texts, names):
            study = make_study(
                accounts, seen, clusters, texts, as_of=plan.as_of, minimum=plan.minimum, names=names, labels=hand
            )
        said = origin(plan.accounts, plan.names)
        write_tables(study, clusters, texts, plan.out, plan.names, said)
        if not _filled_in(plan.out / "label_me.csv"):
            write_sample(study, sample(seen, each=plan.sample), plan.out, plan.names, said)
        html = page(study, plan.names, problems=log.counts, posts=report, show_faces=plan.show_faces)
        write_atomically(plan.out / "study.html", html)
        return Outcome(study, dict(log.counts), report)


def _filled_in(path: Path) -> bool:
    """Whether a person has written labels into it: such a file is never replaced."""
    if not path.is_file():
        return False
    return any(row.values["label"] for row in Table(path, {"label": ("label",)}))


def _exists(path: str) -> None:
    """Look at it now: a long scan comes in between."""
    if not Path(path).is_file():
        raise UsageError(f"no table at {printable(path)}; check the path")


def _scanned(plan: Plan, progress: Progress) -> str:
    """Scan what has no record yet; return the file of results."""
    assert plan.pictures is not None  # Plan made sure
    path = str(plan.out / "scan.jsonl")
    inputs = Inputs([plan.pictures])
    with open_results(path) as results:
        done = 0

        def count(_: object = None) -> None:
            nonlocal done
            done += 1
            progress("pictures", done, None)

        scan_to_file(inputs, results, plan.scan, workers=plan.workers, on_result=count, on_skip=count)
    return path


def _clustered(plan: Plan, progress: Progress) -> str | None:
    """Look for copies among the pictures; return the table of clusters. Without pictures there is none."""
    if plan.pictures is None:
        return None
    path, options = plan.out / "clusters.csv", HashOptions(limits=plan.scan.limits)
    with open_hashes(plan.out / "hashes.jsonl", options) as file:
        done = 0

        def count(_: object = None) -> None:
            nonlocal done
            done += 1
            progress("hashes", done, None)

        hash_to_file(Inputs([plan.pictures]), file, workers=plan.workers, on_record=count, on_skip=count)
        find_duplicates(file, path, RADII[options.kind], progress=progress)
    return str(path)


@contextlib.contextmanager
def _texts(
    plan: Plan, accounts: Accounts, log: ProblemLog, progress: Progress
) -> Iterator[tuple[PostReport | None, Texts | None, dict[str, str]]]:
    if plan.posts is None:
        yield None, None, {}
        return
    with open_analysis(plan.posts, plan.post_options, progress=progress) as (report, store):
        say = log.of("posts")
        for row, kind, detail in store.sql.execute("SELECT row, kind, detail FROM problem ORDER BY row"):
            say(Problem(row, kind, detail))
        texts = join_posts(accounts, store, say)
        write_posts_tables(report, store, plan.out / "posts", plan.names)
        write_atomically(plan.out / "posts.html", posts_page(report, private=plan.names.active))
        names = {
            f"cluster {c.number}": f"cluster {c.number}: {', '.join(w for w, _ in c.words[:5])}"
            for c in report.clusters
        }
        names |= {f"copies {g.number}": f"copies {g.number}: {g.text[:80]}" for g in report.copies}
        yield report, texts, names
