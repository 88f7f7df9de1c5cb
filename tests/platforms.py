"""Made-up platforms with planted campaigns, and with what looks like one and is none."""

from __future__ import annotations

import csv
import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faceproof.accounts import Accounts, Pictures
from faceproof.detectors.card import Card
from faceproof.flags import Tally
from faceproof.rows import Problem
from faceproof.study import Study, Texts, join_records, make_study

START = 1_420_070_400  # 2015-01-01
DAYS = 3000


@dataclass
class Account:
    """One account: `pictures`, `texts` are numbers that accounts with copies of a picture or a text share."""

    name: str
    created: float
    followers: int
    posts: int
    flagged: bool = False
    picture: int = 0
    texts: set[int] = field(default_factory=set)
    campaign: str = ""


def platform(seed: int = 0, size: int = 4000) -> list[Account]:
    """Return accounts: ordinary ones, and four campaigns.

    Ordinary accounts grow in number over eight years, with one day on which ten times as many came; 0.5 % are flagged,
    30 pictures and 30 texts are shared by 3 to 60 of them at random (favourite pictures, sayings).
    The campaigns: A (40): flagged, texts, two days, pictures in fives. B (25): flagged and texts, any time. C (30): one
    picture, one day, unflagged, silent. D (60): texts, five days, unflagged.
    """
    rng = random.Random(seed)
    spike = START + 2100 * 86400
    accounts = []
    for n in range(size):
        # Growth: later days are likelier.
        created = START + DAYS * 86400 * math.sqrt(rng.random())
        if rng.random() < 0.003:
            created = spike + rng.random() * 86400
        followers = int(rng.lognormvariate(4, 1.5))
        accounts.append(Account(f"user{n}", created, followers, int(rng.lognormvariate(5, 1)), rng.random() < 0.005))
    for number in range(1, 31):
        for one in rng.sample(accounts, min(rng.randint(3, 60), size // 4)):
            one.picture = number
        for one in rng.sample(accounts, min(rng.randint(3, 60), size // 4)):
            one.texts.add(number)
    for name, count, days in (("A", 40, 2), ("B", 25, DAYS), ("C", 30, 1), ("D", 60, 5)):
        first = START + rng.randint(200, DAYS - 20) * 86400 if days < DAYS else START
        for n in range(count):
            one = Account(f"{name}{n}", first + rng.random() * days * 86400, rng.randint(0, 30), rng.randint(1, 40))
            one.campaign = name
            one.flagged = name in "AB" and rng.random() < 0.9
            if name in "ABD":
                one.texts.add(100 + ord(name))
            one.picture = {"A": 1000 + n // 5, "C": 2000}.get(name, 0)
            accounts.append(one)
    rng.shuffle(accounts)
    return accounts


def records(accounts: list[Account], card: Card) -> list[dict[str, Any]]:
    """Return what a scan would say about their pictures."""
    threshold = card.point(None).threshold
    common = {"sha256": None, "error": None, "width": 400, "height": 400, "log_odds": 0.0, "probability": 0.5}
    common |= {"threshold": 0.5, "threshold_fpr": 0.01, "band": [0.4, 0.6], "alpha": None, "notes": [], "alarm": False}
    common |= {"model": card.identity, "face_detector": "none", "version": "0", "schema": "faceproof.result/1"}
    found = []
    for one in accounts:
        score = threshold + (1.0 if one.flagged else -1.0)
        face = {"box": [50.0, 50.0, 150.0, 150.0], "quality": [], "log_odds": 0.0}
        label = "generated" if one.flagged else "photograph"
        found.append({"path": f"pictures/{one.name}.jpg", "status": "ok", **common, "faces": [face], "score": score,
                      "verdict": label})  # fmt: skip
    return found


def write(accounts: list[Account], card: Card, folder: Path) -> None:
    """Write accounts.csv, scan.jsonl, clusters.csv and posts.csv."""
    rng = random.Random(1)
    with (folder / "accounts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["account_id", "created_at", "followers_count", "statuses_count", "suspended"])
        writer.writerows([a.name, a.created, a.followers, a.posts, int(bool(a.campaign))] for a in accounts)
    with (folder / "scan.jsonl").open("w") as stream:
        # Records begin with their path: that is how a torn last line is told from another file.
        stream.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records(accounts, card))
    with (folder / "clusters.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cluster", "path", "hash", "distance", "view", "flat", "status", "error"])
        for one in accounts:
            writer.writerow([one.picture, f"pictures/{one.name}.jpg", "0" * 16, 0, "as it is", 0, "ok", ""])
    vocabulary = ["".join(rng.choices("abcdefghilmnoprstu", k=rng.randint(3, 8))) for _ in range(2000)]
    shared: dict[int, str] = {}
    with (folder / "posts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "account_id", "created_at", "text"])
        number = 0
        for one in accounts:
            own = [" ".join(rng.choices(vocabulary, k=12)) for _ in range(1)]
            own += [shared.setdefault(t, " ".join(rng.choices(vocabulary, k=15))) for t in sorted(one.texts)]
            for text in own:
                writer.writerow([number, one.name, one.created + 86400 * rng.randint(1, 30), text])
                number += 1


def study_of(accounts: list[Account]) -> Study:
    """A study of a made-up platform, without files."""
    count = len(accounts)
    names = tuple(one.name for one in accounts)
    made = Accounts(
        names, ("",) * count, np.array([one.created for one in accounts]),
        {"followers": np.array([float(a.followers) for a in accounts]), "following": np.full(count, np.nan),
         "posts": np.array([float(a.posts) for a in accounts])},
        {role: np.full(count, np.nan) for role in ("verified", "suspended", "protected")},
        {name: n for n, name in enumerate(names)},
    )  # fmt: skip
    tally = Tally(None, None)
    problems: list[Problem] = []
    seen = join_records(made, Pictures(made, "pictures"), records(accounts, tally.card), tally, problems.append)
    assert not problems
    clusters: dict[int, set[int]] = {}
    copies: dict[int, set[int]] = {}
    for n, one in enumerate(accounts):
        if one.picture:
            clusters.setdefault(one.picture, set()).add(n)
        for text in one.texts:
            copies.setdefault(text, set()).add(n)
    posts = np.array([1 + len(one.texts) for one in accounts])
    return make_study(made, seen, clusters, Texts(posts, (posts - 1) / posts, {}, copies))
