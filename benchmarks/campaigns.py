"""How many accounts of planted campaigns `faceproof study` names, and how many of those it names are planted.

    python benchmarks/campaigns.py --first 1000 --platforms 20

Made-up platforms (tests/platforms.py) of 4,000 accounts and four campaigns, with 30 favourite pictures, 30 sayings and
a busy day that mislead; seeds that no test and no choice has seen. Each is studied once more without its campaigns:
what is named then is a false alarm. Writes campaigns.csv.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from common import HERE, arguments, write_results


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first platform")
    parser.add_argument("--platforms", type=int, default=20)
    given = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    write_results(given.results / "campaigns.csv", list(_rows(range(given.first, given.first + given.platforms))))


def _rows(seeds: range) -> Iterator[dict[str, object]]:
    from tests.platforms import platform, study_of

    named = right = planted = false = 0
    for seed in seeds:
        accounts = platform(seed)
        study = study_of(accounts)
        own = {number for number, one in enumerate(accounts) if one.campaign}
        found = {member for one in study.campaigns for member in one.members}
        none = study_of([one for one in accounts if not one.campaign]).campaigns
        named, right, planted = named + len(found), right + len(found & own), planted + len(own)
        false += len(none)
        yield {"seed": seed, "accounts": len(accounts), "planted": len(own), "named": len(found),
               "precision": f"{len(found & own) / len(found):.3f}", "recall": f"{len(found & own) / len(own):.3f}",
               "campaigns": len(study.campaigns), "campaigns_without_any_planted": len(none)}  # fmt: skip
    yield {"seed": "all", "accounts": "", "planted": planted, "named": named, "precision": f"{right / named:.3f}",
           "recall": f"{right / planted:.3f}", "campaigns": "", "campaigns_without_any_planted": false}  # fmt: skip


if __name__ == "__main__":
    main()
