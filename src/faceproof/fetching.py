"""Read pictures from buckets and servers ahead of their turn, several at once: waiting, not reading, takes the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from faceproof.errors import PictureError
from faceproof.images import Limits, fetch
from faceproof.inputs import Item
from faceproof.remote import is_url
from faceproof.shards import split
from faceproof.video import is_video

__all__ = ["AHEAD", "fetched"]

AHEAD = 8
"""Pictures under way at once. So many are held, and no more."""


def fetched(items: Iterable[Item], limits: Limits) -> Iterator[Item]:
    """Yield the items in order, those in buckets and on servers with their bytes, or with why there are none.

    Raises:
        StorageError: a bucket fails as a whole; items before come out first.
    """
    waiting: deque[tuple[Item, Future[Item] | None]] = deque()
    iterator = iter(items)
    with ThreadPoolExecutor(AHEAD) as pool:
        try:
            # A single local item in hand is enough: lists on standard input may come slowly.
            for item in iterator:
                far = item.error is None and item.data is None and _far(item.path)
                if not far and not waiting:
                    yield item
                    continue
                waiting.append((item, pool.submit(_fetch, item, limits) if far else None))
                if len(waiting) >= AHEAD:
                    yield _out(waiting)
            while waiting:
                yield _out(waiting)
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()


def _far(path: str) -> bool:
    """Whether a path is a picture elsewhere; videos are read as they run, members of shards with their shard."""
    return is_url(path) and split(path) is None and not is_video(path)


def _out(waiting: deque[tuple[Item, Future[Item] | None]]) -> Item:
    item, future = waiting.popleft()
    return item if future is None else future.result()


def _fetch(item: Item, limits: Limits) -> Item:
    try:
        return replace(item, data=fetch(item.path, limits))
    except PictureError as err:
        return replace(item, error=str(err))
