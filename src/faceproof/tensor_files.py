"""Read and write small safetensors files with numpy alone.

The format (huggingface/safetensors): 8 bytes little-endian length of the header, the header as a JSON object of
name -> {"dtype", "shape", "data_offsets"} (and "__metadata__", name -> text), then the tensors' bytes, row by row,
without gaps. Only F32 and F64 are read. Nothing in such a file is executed, and no length in it is believed
before it is held against the file's own.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import ModelError, UsageError

__all__ = ["read_tensors", "tensor_bytes"]

MAX_BYTES = 256 * 1024 * 1024
MAX_HEADER = 1024 * 1024
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}

Array = npt.NDArray[Any]


def tensor_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file of float32 and float64 arrays, sorted by name.

    Raises:
        UsageError: an array is of another type.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts: list[bytes] = []
    position = 0
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        kind = next((key for key, dtype in DTYPES.items() if dtype == array.dtype), None)
        if kind is None or name == "__metadata__":
            raise UsageError(f"tensor {name!r} is {array.dtype}; float32 and float64 are written, under other names")
        parts.append(array.astype(DTYPES[kind]).tobytes())
        header[name] = {
            "dtype": kind, "shape": list(array.shape), "data_offsets": [position, position + len(parts[-1])],
        }  # fmt: skip
        position += len(parts[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes, as the format's own writer has it
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def read_tensors(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays of a safetensors file, copied and read-only, and its metadata.

    Args:
        data: the whole file.

    Raises:
        ModelError: it is not such a file, too large, or holds another type than F32 and F64.
    """
    if not 8 <= len(data) <= MAX_BYTES:
        raise _wrong(f"it has {len(data)} bytes; 8 to {MAX_BYTES} are read")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(MAX_HEADER, len(data) - 8):
        raise _wrong(f"its header claims {length} bytes of {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        raise _wrong(f"its header is not JSON ({err})") from err
    if not isinstance(header, dict):
        raise _wrong("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _wrong("its metadata are not texts by name")
    body = memoryview(data)[8 + length :]
    places = {name: _place(name, facts) for name, facts in header.items()}
    end = 0
    for first, last in sorted((first, last) for _, _, first, last in places.values()):
        if first != end:
            raise _wrong(f"its tensors overlap or leave a gap at byte {min(first, end)}")
        end = last
    if end != len(body):
        raise _wrong(f"its tensors end at byte {end} of {len(body)}")
    found = {}
    for name, (dtype, shape, first, last) in places.items():
        array = np.frombuffer(body[first:last], dtype).reshape(shape).copy()
        array.setflags(write=False)
        found[name] = array
    return found, metadata


def _place(name: str, facts: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Return type, shape, first and last byte of one tensor; all of them whole numbers that agree."""
    if not isinstance(facts, dict) or facts.keys() != {"dtype", "shape", "data_offsets"}:
        raise _wrong(f"tensor {name!r} lacks dtype, shape or data_offsets, or has more")
    kind, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise _wrong(f"tensor {name!r} is of type {str(kind)[:20]!r}; read: {', '.join(DTYPES)}")
    if not _whole(shape) or len(shape) > 4 or not _whole(offsets) or len(offsets) != 2:
        raise _wrong(f"tensor {name!r} has no possible shape or place")
    first, last = offsets
    if last - first != math.prod(shape) * DTYPES[kind].itemsize or last > MAX_BYTES:
        raise _wrong(f"tensor {name!r} has another size than its shape says")
    return DTYPES[kind], tuple(shape), first, last


def _whole(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= MAX_BYTES for v in values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _wrong(why: str) -> ModelError:
    return ModelError(f"not a safetensors file that can be used: {why}; get the model again")
