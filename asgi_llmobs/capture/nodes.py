"""Trees by Node-Id where no trace is around: which calls belong together, whoever makes them and in which order.

The id of such a trace is made from the project, the session and the first segment of the path, so that several threads
and processes come to the same one without a word between them. A short path such as ``child:grand``, whose first
segment is known as a child, joins the tree of that child where this process has seen it.
"""

import hashlib
import os
import threading
from collections import OrderedDict

from asgi_llmobs.capture.recorder import Recorder
from asgi_llmobs.context import Trace
from asgi_llmobs.records import Annotations, node_path

__all__ = ["Nodes", "nodes"]

MAX_KNOWN = 10_000  # segments; the one that was used least recently is forgotten first

Key = tuple[str, str | None, str]


class Known:
    """What is known of a segment: where it belongs, and how that is known."""

    __slots__ = ("ambiguous", "only_named", "root", "trace")

    def __init__(self, trace: Trace, *, root: bool, only_named: bool) -> None:
        self.trace = trace
        self.root = root  # paths begin with it
        self.only_named = only_named  # and nobody sent it: it may turn out to be a child
        self.ambiguous = False  # a child of several traces


class Nodes:
    """The segments of the paths that were seen lately."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._lock = threading.Lock()
        self._known: OrderedDict[Key, Known] = OrderedDict()

    def remember(self, trace: Trace, said: Annotations) -> None:
        """A call with a Node-Id was made inside *trace*: what a thread adds to its path later belongs there too."""
        path = node_path(said.node_id)
        if path:
            with self._lock:
                self._note(trace, said.project or trace.project, said.session_id, path)

    def trace_of(self, recorder: Recorder, said: Annotations) -> Trace:
        """The trace of a call with a Node-Id that is made outside any."""
        path = node_path(said.node_id)
        if not path:
            return recorder.new_trace()
        project = said.project or recorder.config.project
        with self._lock:
            trace = self._find(recorder, project, said.session_id, path)
            if trace is None:
                trace = recorder.new_trace(derived_id(project, said.session_id, path[0]))
                trace.sampled = recorder.samples_id(trace.id)
            self._note(trace, project, said.session_id, path)
        return trace

    def _find(self, recorder: Recorder, project: str, session: str | None, path: tuple[str, ...]) -> Trace | None:
        first = self._known.get((project, session, path[0]))
        if first is not None and first.trace.recorder is recorder and not first.ambiguous:
            return first.trace
        for segment in path[1:]:  # what was sent with a short path before belongs below this one
            known = self._known.get((project, session, segment))
            if known is not None and known.trace.recorder is recorder and known.root and known.only_named:
                return known.trace
        return None

    def _note(self, trace: Trace, project: str, session: str | None, path: tuple[str, ...]) -> None:
        for place, segment in enumerate(path):
            key = project, session, segment
            known = self._known.get(key)
            if known is None or known.trace.recorder is not trace.recorder:
                self._known[key] = Known(trace, root=place == 0, only_named=len(path) > 1)
            elif place == 0:
                known.only_named = known.only_named and len(path) > 1
            elif known.trace is trace:
                known.root = False
            elif not known.root:
                known.ambiguous = True
            self._known.move_to_end(key)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def derived_id(project: str, session: str | None, segment: str) -> str:
    """The trace id that everybody makes of the same names."""
    text = "\0".join((project, session or "", segment))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


nodes = Nodes()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=nodes.reset)
