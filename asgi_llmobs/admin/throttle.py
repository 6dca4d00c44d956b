"""The back-off against guessing: after five wrong tries a peer waits, twice as long each time, up to a minute."""

import threading
import time
from collections import OrderedDict, deque

__all__ = ["Throttle"]

FREE_TRIES = 5
LONGEST_SECONDS = 60
FORGET_SECONDS = 900.0
PEERS = 4096
TRIES_PER_MINUTE = 100  # wrong ones, of all peers together: one address a try does not help


class Throttle:
    """Counts wrong tries by peer, in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._peers: OrderedDict[str, tuple[int, float]] = OrderedDict()  # wrong tries, time of the last
        self._recent: deque[float] = deque(maxlen=TRIES_PER_MINUTE)

    def wait(self, peer: str, *, crowd: bool = False) -> int:
        """Seconds that *peer* has to wait before its next try; 0: none.

        Args:
            crowd: Count the tries of all peers too: for the sign-in page, where a person can wait.
        """
        now = time.monotonic()
        with self._lock:
            wrong, last = self._peers.get(peer, (0, now))
            if now - last > FORGET_SECONDS:
                wrong = 0
            crowded = crowd and len(self._recent) == TRIES_PER_MINUTE and now - self._recent[0] < 60
        if wrong < FREE_TRIES:
            return LONGEST_SECONDS if crowded else 0
        pause = min(2.0 ** (wrong - FREE_TRIES), LONGEST_SECONDS)
        return max(0, -int((now - last - pause) // 1))

    def note(self, peer: str, *, good: bool) -> None:
        """Remember how a try of *peer* went."""
        now = time.monotonic()
        with self._lock:
            wrong, last = self._peers.pop(peer, (0, now))
            if good:
                return
            self._peers[peer] = (1 if now - last > FORGET_SECONDS else wrong + 1, now)
            self._recent.append(now)
            while len(self._peers) > PEERS:
                self._peers.popitem(last=False)
