"""How episodes pass between processes: JSON, then the bytes of each array; never pickled objects, which run code.

An end is ``{}``, an error ``{"error": …, "integrity": …}``, an episode ``{"facts": …, "arrays": [[key, dtype, shape], …]}``.
"""

import json
from multiprocessing import BufferTooShort
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from postbc.demos.bounds import JSON_BYTES, check_size
from postbc.demos.episode import Episode
from postbc.errors import DataError, IntegrityError

Found = Episode | DataError | None
PARTS = ("action", "reward", "success", "timestamp")


def say(pipe: Connection, value: Any) -> None:
    """Send a JSON value."""
    pipe.send_bytes(json.dumps(value).encode())


def hear(pipe: Connection) -> Any:
    """Receive a JSON value."""
    return json.loads(pipe.recv_bytes(JSON_BYTES))


def send(pipe: Connection, found: Found) -> None:
    """Send an episode, an error, or None for the end."""
    if found is None:
        say(pipe, {})
    elif isinstance(found, DataError):
        say(pipe, {"error": str(found), "integrity": isinstance(found, IntegrityError)})
    else:
        arrays = found.arrays() | ({} if found.timestamp is None else {"timestamp": found.timestamp})
        shapes = [[key, values.dtype.str, list(values.shape)] for key, values in arrays.items()]
        say(pipe, {"facts": dict(found.facts), "arrays": shapes})
        for values in arrays.values():
            if values.size:
                pipe.send_bytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8))


def receive(pipe: Connection) -> Found:
    """What was sent. Raises DataError for what is none of that."""
    try:
        header = hear(pipe)
        if not header:
            return None
        if "error" in header:
            return (IntegrityError if header["integrity"] else DataError)(str(header["error"]))
        arrays = {
            str(key): _array(pipe, np.dtype(str(kind)), tuple(map(int, shape))) for key, kind, shape in header["arrays"]
        }
        obs = {key.removeprefix("obs/"): values for key, values in arrays.items() if key.startswith("obs/")}
        action, reward, success = (arrays[key] for key in PARTS[:3])
        return Episode(action, obs, reward, success, dict(header["facts"]), arrays.get("timestamp"))
    except (ValueError, KeyError, TypeError, AttributeError, BufferTooShort) as error:
        raise DataError(f"the process that reads it sent what is no episode ({error}).") from error


def _array(pipe: Connection, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind not in "fiub":
        raise ValueError(f"an array of {dtype}")
    check_size(shape, dtype, "an episode")
    values = np.empty(shape, dtype)
    if values.size and pipe.recv_bytes_into(values.reshape(-1).view(np.uint8)) != values.nbytes:
        raise ValueError("too few bytes")
    return values
