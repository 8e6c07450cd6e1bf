"""One stage of a pipeline in its own thread."""

import threading
import time
from collections.abc import Callable, Generator
from queue import Empty, Full, Queue
from typing import TypeVar

Item = TypeVar("Item")

_POLL = 0.1  # seconds between looks at the stop signal while the queue is full, or empty
_HANGING = 1.0  # seconds that a thread may take to notice the stop signal before it is taken to hang


class _End:
    """The generator is exhausted, or has raised `error`."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def background(
    items: Generator[Item],
    ahead: int,
    drop: Callable[[Item], bool] | None = None,
    stop: threading.Event | None = None,
) -> Generator[Item]:
    """Yield what `items` yields, while a thread computes up to `ahead` items more.

    With `drop`, an item for which there is no room is given to it, and left out if it says so: for sources
    that can't be made to wait.

    Order is kept, an exception of `items` is raised here at its place, and closing this generator closes
    `items` (in the thread that runs it) and waits for the thread. So stages nest, and one `close` at the end
    of the line stops them all. Threads overlap because decoding, inference and drawing release the GIL.

    With `stop`, given to every stage of a line, closing one of them before its end sets it, ends all, and
    does not wait for a thread that hangs: for sources that may be silent for long. Such a thread ends by
    itself, or with the process.
    """
    queue: Queue[Item | _End] = Queue(ahead)
    closed = threading.Event()

    def stopped() -> bool:
        return closed.is_set() or (stop is not None and stop.is_set())

    def hand_over(item: Item | _End) -> bool:
        while not stopped():
            try:
                queue.put(item, timeout=_POLL)
                return True
            except Full:
                continue
        return False

    def receive() -> Item | _End:
        while not stopped():
            try:
                return queue.get(timeout=None if stop is None else _POLL)
            except Empty:
                continue
        return _End(None)

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if drop is not None and queue.full() and drop(item):
                    continue
                if not hand_over(item):
                    break
        except BaseException as raised:  # handed to the consumer, whose thread can act on it
            error = raised
        finally:
            items.close()
            hand_over(_End(error))

    thread = threading.Thread(target=work, name=f"background {items!r}", daemon=True)
    try:
        thread.start()  # in here: Ctrl-C may come when it runs already
        while not isinstance(item := receive(), _End):
            yield item
        if item.error is not None:
            raise item.error
    except BaseException:
        if stop is not None:
            stop.set()
        raise
    finally:
        closed.set()
        if _runs(thread):
            thread.join(None if stop is None else _HANGING)


def _runs(thread: threading.Thread) -> bool:
    """Whether a thread was started, even if the start was interrupted."""
    while thread.ident is None and thread in threading.enumerate():  # it is about to run
        time.sleep(0.001)
    return thread.ident is not None
