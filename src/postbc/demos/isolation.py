"""Recordings are read in a process of its own: what a damaged file does to the library that opens it stays there.

HDF5's library can loop for ever on one flipped bit, and others crash or fill the memory. The reading process may take
SECONDS an episode and ROOM times EPISODE_BYTES of memory; when it dies, that is a DataError here. It reads the next episode
while the last one is checked and stored, and serves one recording after the other.
"""

import atexit
import os
import resource
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

from postbc.demos import bounds, wire
from postbc.demos.episode import Episode
from postbc.errors import DataError
from postbc.processes import Child, served

SECONDS = 300
LEAVING = 2.0
ROOM, BESIDE = 4, 2**30  # the latter for threads and tables
_STOP = "stop"


class _Worker:
    """The reading process."""

    def __init__(self) -> None:
        self.child = Child(__name__)
        self.pipe = self.child.pipe
        self.busy = False  # with a recording that nobody wants any more

    def free(self) -> bool:
        """Whether it can be asked: it lives, and leaves within LEAVING seconds what nobody wants any more."""
        if not self.child.alive():
            return False
        if self.busy:
            try:
                wire.say(self.pipe, _STOP)
                while self.busy and self.pipe.poll(LEAVING):
                    self.busy = isinstance(wire.receive(self.pipe), Episode)
            except (EOFError, OSError, DataError):
                return False
        return not self.busy

    def close(self) -> None:
        """End it."""
        self.child.kill()


_idle: list[_Worker] = []


@atexit.register
def close() -> None:
    """End the processes that wait for work."""
    while _idle:
        _idle.pop().close()


def _free() -> _Worker:
    """One that waits, and is alive, or a new one."""
    while _idle:
        worker = _idle.pop()
        if worker.free():
            return worker
        worker.close()
    return _Worker()


def read(reader: ModuleType, *where: Path | str) -> Iterator[Episode]:
    """What ``reader.read(*where)`` yields. Raises its DataError, and one for everything else that comes of reading."""
    worker = _free()
    whole = False  # messages were read to their end, so that the next ones can be
    try:
        wire.say(worker.pipe, [reader.__name__, list(map(str, where)), bounds.EPISODE_BYTES, SECONDS])
        while (found := wire.receive(worker.pipe)) is not None:
            whole, worker.busy = True, isinstance(found, Episode)
            if isinstance(found, DataError):
                raise found
            yield found
            whole = False
        whole, worker.busy = True, False
    except (EOFError, OSError) as error:  # the latter in the middle of a message
        said = f"took more than {SECONDS} s" if worker.child.process.wait() == -signal.SIGALRM else "died of it"
        raise DataError(
            f"{where[0]}: damaged so that the process that read it {said}. Copy or record it again."
        ) from error
    finally:
        if whole and worker.free():
            _idle.append(worker)
        else:
            worker.close()


def _serve(pipe: Connection) -> None:
    """Read what is asked for until nobody asks."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process even inside of a library
    while True:
        request = wire.hear(pipe)
        if request == _STOP:  # it came when there was nothing left to stop
            continue
        name, (path, *subset), bounds.EPISODE_BYTES, seconds = request
        _limit_memory()
        try:
            episodes = sys.modules[name].read(Path(path), *subset)
            while (found := _next(episodes, seconds)) is not None:
                if pipe.poll():
                    wire.hear(pipe)
                    break
                wire.send(pipe, found)
            episodes.close()  # and the files with it
            wire.send(pipe, None)
        except DataError as error:
            wire.send(pipe, error)
        except Exception as error:  # libraries have many words for a damaged file
            said = f"{name.rpartition('.')[2]} ({type(error).__name__}: {error})"
            wire.send(pipe, DataError(f"{path}: not readable as {said}. Copy or record it again."))


def _next(episodes: Iterator[Episode], seconds: int) -> Episode | None:
    """The next episode; the process ends when it takes longer. How long it takes until somebody wants it does not count."""
    signal.alarm(seconds)
    try:
        return next(episodes, None)
    finally:
        signal.alarm(0)


def _limit_memory() -> None:
    """Address space for what the process holds already and ROOM arrays; of the systems in use only Linux keeps to it."""
    if sys.platform != "linux":
        return
    with Path("/proc/self/statm").open() as file:
        held = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    wanted, most = held + ROOM * bounds.EPISODE_BYTES + BESIDE, resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


if __name__ == "__main__":
    import postbc.demos.readers  # noqa: F401 - so that all of them are at hand

    served(_serve)
