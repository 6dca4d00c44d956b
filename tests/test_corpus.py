"""Recorded provider traffic, replayed through a watched client: the caller notices nothing, the record says the truth.

The recordings are not part of this repository. ``LLMOBS_CORPUS`` names the folder that holds them; without it a folder
``shared/corpus`` beside the checkout is tried, and where neither exists these tests are skipped.
"""

import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path

import httpx
import httpx2
import pytest

from asgi_llmobs.testing import capture

FOLDER = Path(os.environ.get("LLMOBS_CORPUS") or Path(__file__).parents[2] / "shared" / "corpus")

pytestmark = pytest.mark.skipif(
    not (FOLDER / "truth.jsonl").exists(), reason="no recordings: set LLMOBS_CORPUS to the folder that holds them"
)
FAMILIES = {"httpx": httpx, "httpx2": httpx2}
MODES = (
    "whole event bytes1 odd utf8 dataline crlf crlf-split cr bom comment gzip gzip-flush br zstd deflate truncate abort"
).split()
CUT_SHORT = {"truncate", "abort"}
USAGE = (
    "input_tokens output_tokens cache_read cache_write cache_write_5m cache_write_1h reasoning audio_input "
    "audio_output image_input image_output input_raw output_raw total_reported billed_input "
    "billed_output search_units seconds cost_usd"
).split()
# counts that must stay unknown where the truth has none; of other fields an answer may say more than the truth kept
NEVER_INVENTED = frozenset(
    "input_tokens output_tokens cache_read cache_write reasoning audio_input audio_output cost_usd".split()
)
TOLD_OTHERWISE = {
    # a stream of two generations, piece by piece in turn: the truth joins them, `text` is that of the first
    ("62e74f002bae7511", "text"),
    # an endpoint that does nothing but stream: no field of the body asks for it
    ("b89802b5d9297ef9", "stream_requested"),
}


@pytest.fixture(scope="module")
def replay():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("replay")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def recordings(replay):
    return replay.load(FOLDER / "interactions.jsonl.gz")


@pytest.fixture(scope="module")
def truths():
    return {truth["id"]: truth for truth in map(json.loads, (FOLDER / "truth.jsonl").read_text().splitlines())}


def replayed(replay, recordings, namespace, mode, *, asynchronous, wrap):
    """The caller's results, and by id of the recording the record that it made (or nothing)."""
    recorded = {}
    with capture(instrument="off", max_body=1 << 26) as captured:

        def after(recording, result):
            made = captured.requests
            assert len(made) <= 1, [record.url for record in made]
            for record in made:
                recorded[recording["id"]] = record
            captured.clear()

        run = replay.arun if asynchronous else replay.run
        results = run(lambda inner: wrap(captured.obs, inner), recordings, ns=namespace, mode=mode, after=after)
    return results, recorded


def differences(truth, record):
    """Every field of *truth* that *record* says otherwise."""
    usage = record.usage
    said = {
        "provider": record.provider,
        "api": record.api,
        "operation": record.operation,
        "request_model": record.request_model,
        "response_model": record.response_model,
        "response_id": record.response_id,
        "status": record.status,
        "stream": record.stream,
        "framing": record.framing,
        "stream_requested": record.stream_requested,
        "finish_reasons": [str(reason) for reason in record.finish_reasons],
        "text": "".join(record.text.split()),
        "reasoning_text": "".join(record.reasoning_text.split()),
        "tool_calls": [(call.get("name"), arguments(call.get("arguments"))) for call in record.tool_calls],
        "server_tools": list(record.server_tools),
        "refusal": record.refusal,
        "error": record.error
        and {name: record.error.get(name) for name in truth["error"] or {} if truth["error"][name]},
        **{name: getattr(usage, name, None) or None for name in USAGE},
    }
    wanted = {
        **{name: truth[name] for name in said if name in truth},
        "error": truth["error"] and {name: value for name, value in truth["error"].items() if value},
        "finish_reasons": [str(reason) for reason in truth["finish_reasons"]],
        "text": "".join((truth["text"] or "").split()),
        "reasoning_text": "".join((truth["reasoning_text"] or "").split()),
        "tool_calls": [(call.get("name"), arguments(call.get("arguments"))) for call in truth["tool_calls"]],
        **{name: (truth["usage"] or {}).get(name) or None for name in USAGE},
    }
    told = {name for name, value in wanted.items() if value not in (None, "", [])} | NEVER_INVENTED
    return {name: (wanted[name], said[name]) for name in told if wanted[name] != said[name]}


def arguments(value):
    if isinstance(value, str):
        try:
            return json.loads(value) if value.strip() else {}
        except ValueError:
            return value
    return value or {}


def compare(truths, recordings, results, recorded, mode):
    problems = [
        (result["id"], "the caller got other bytes", result["error"])
        for result in results
        if result["same_bytes"] is False
    ]
    for recording in recordings:
        truth, record = truths[recording["id"]], recorded.get(recording["id"])
        if not truth["llm_call"]:
            if record is not None:
                problems.append((truth["id"], "recorded, though it is no LLM call", record.url))
        elif record is None:
            problems.append((truth["id"], "not recorded", recording["url"]))
        elif mode not in CUT_SHORT:
            problems += [
                (truth["id"], truth["api"], name, *pair)
                for name, pair in differences(truth, record).items()
                if (truth["id"], name) not in TOLD_OTHERWISE
            ]
    return problems


# in the default run one of the four ways for each mode in turn; all of them with `-m long`
WAYS = [("sync", "httpx"), ("async", "httpx2"), ("sync", "httpx2"), ("async", "httpx")]
CASES = [
    pytest.param(family, kind == "async", mode, id=f"{kind}-{family}-{mode}", marks=marks)
    for place, mode in enumerate(MODES)
    for way, (kind, family) in enumerate(WAYS)
    for marks in ([() if way == place % len(WAYS) else (pytest.mark.long,)])
]


@pytest.mark.parametrize(("family", "asynchronous", "mode"), CASES)
def test_every_recording_is_read_as_its_truth_says(replay, recordings, truths, family, asynchronous, mode):
    """A replay through a watched transport, however the bodies are split, encoded and cut."""
    results, recorded = replayed(
        replay,
        recordings,
        FAMILIES[family],
        mode,
        asynchronous=asynchronous,
        wrap=lambda obs, inner: obs.transport(inner),
    )
    problems = compare(truths, recordings, results, recorded, mode)

    assert problems == []


@pytest.mark.parametrize("mode", ["event", "truncate", "abort"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_caller_sees_the_same_errors_with_and_without_us(replay, recordings, family, mode):
    """The exceptions of a broken connection and the number of chunks are those of a bare client."""
    namespace = FAMILIES[family]
    bare = replay.run(lambda inner: inner, recordings, ns=namespace, mode=mode)
    watched, _ = replayed(
        replay, recordings, namespace, mode, asynchronous=False, wrap=lambda obs, inner: obs.transport(inner)
    )
    seen = [[(one["id"], one["status"], one["error"], one["chunks"]) for one in run] for run in (bare, watched)]

    assert seen[0] == seen[1]


@pytest.mark.parametrize("mode", sorted(CUT_SHORT))
def test_what_streamed_before_the_cut_is_kept(replay, recordings, truths, mode):
    """A stream that broke off has the text that had arrived, and no finished status."""
    results, recorded = replayed(
        replay, recordings, httpx, mode, asynchronous=False, wrap=lambda obs, inner: obs.transport(inner)
    )
    outcomes = Counter()
    for recording in recordings:
        truth, record = truths[recording["id"]], recorded.get(recording["id"])
        if record is None or not truth["stream"] or not truth["text"]:
            continue
        outcomes[record.outcome] += 1
        assert "".join(truth["text"].split()).startswith("".join(record.text.split()))
        if mode == "truncate" and record.framing == "sse":
            assert record.outcome == "error"

    assert outcomes["error" if mode == "truncate" else "abandoned"] > 5


def test_concurrent_calls_do_not_mix(replay, recordings, truths):
    """All recordings at once over one asynchronous client: each record is its own."""
    with capture(instrument="off", max_body=1 << 26) as captured:
        replay.arun(lambda inner: captured.obs.transport(inner), recordings, ns=httpx2, mode="event", concurrency=32)
        wanted = Counter(
            truth["response_id"] for truth in truths.values() if truth["llm_call"] and truth["response_id"]
        )
        seen = Counter(record.response_id for record in captured.requests)

    assert not wanted - seen
