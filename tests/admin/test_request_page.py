"""The page of one request: what was new in it, what it is beside another, where its time went, its pictures."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.admin.comparison import steps_of
from asgi_llmobs.admin.conversation import Calls
from asgi_llmobs.admin.markdown import render_markdown
from asgi_llmobs.admin.wording import Stretch, difference
from asgi_llmobs.records import Attempt, Message, Part
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.reading import Reader, read
from tests.admin.seeding import PICTURE
from tests.admin.visiting import Visitor
from tests.making import SECOND, START, body, request

MS = 1_000_000
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Kyoto"}'}},
    {"id": "b", "type": "function", "function": {"name": "flights", "arguments": '{"to": "Kyoto"}'}},
]
QUESTION = {"role": "user", "content": "Flights to Kyoto, and the weather?"}


def sent(*messages: Any, **given: Any) -> Any:
    """A call with these messages; ``answer`` is the message that came back."""
    answer = given.pop("answer", {"role": "assistant", "content": "Here you are."})
    choices = [{"index": 0, "message": answer, "finish_reason": "stop"}]
    parameters = given.pop("parameters", {"temperature": 0})
    return request(
        request_body=body({"model": "gpt-4o", **parameters, "messages": list(messages)}),
        response_body=body({"choices": choices}),
        parameters=parameters,
        **given,
    )


@pytest.fixture
def site(database: Database) -> Iterator["Site"]:
    yield Site(database)


class Site:
    """A store, and visitors of it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def write(self, *records: Any) -> None:
        Sink(self.database).write(list(records))

    def visitor(self, role: str = "owner", **more: Any) -> Visitor:
        return Visitor(Admin(database=self.database, auth=lambda request: role, environ={}, **more))

    def twin(self, record: Any, query: str = "", role: str = "owner") -> Any:
        answer = self.visitor(role).get(f"/requests/{record.id}.json{query}")
        assert answer.status == 200
        return answer.json

    def page(self, record: Any, query: str = "", role: str = "owner") -> Reader:
        answer = self.visitor(role).get(f"/requests/{record.id}{query}")
        assert answer.status == 200
        return read(answer.text)


def agent(site: Site, **given: Any) -> tuple[Any, Any]:
    """Two calls of one agent in a session: it asks for two tools, and answers from their results."""
    common = {"session_id": "trip", "caller": "app/agent.py:9 step", **given}
    first = sent(
        {"role": "system", "content": "Be brief. It is 10:41."},
        QUESTION,
        answer={"role": "assistant", "content": None, "tool_calls": CALLS},
        **common,
    )
    second = sent(
        {"role": "system", "content": "Be brief. It is 10:42."},
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "a", "content": "11 degrees"},
        {"role": "tool", "tool_call_id": "b", "content": "OS 51"},
        parameters={"temperature": 0.7, "top_p": 1},
        start_ns=START + SECOND,
        **common,
    )
    site.write(first, second)
    return first, second


def kinds(twin: Any) -> list[tuple[str, int]]:
    return [(step["kind"], step["count"]) for step in twin["steps"]]


class TestNew:
    """What was sent that the call before had not sent."""

    def test_only_the_new_is_unfolded(self, site: Site) -> None:
        """A changed prompt is shown word by word, what repeats is folded, results stand with their calls."""
        first, second = agent(site)
        twin, page = site.twin(second), site.page(second)

        assert kinds(twin) == [("changed", 1), ("same", 2), ("new", 2)]
        words = [(each["kind"], each["text"]) for each in twin["steps"][0]["words"]]
        assert words == [("same", "Be brief. It is 10:"), ("gone", "41"), ("new", "42"), ("same", ".")]
        items = [item for turn in twin["steps"][2]["turns"] for item in turn["items"]]
        assert [(item["part"]["name"], item["result"]["content"]) for item in items] == [
            ("weather", "11 degrees"), ("flights", "OS 51"),
        ]  # fmt: skip
        assert (twin["before"]["id"], "2 messages as before" in page.text) == (first.id, True)

    def test_a_call_meets_its_result_in_a_later_request(self, site: Site) -> None:
        """The answer that asks for tools shows what they gave, and where that was sent; they stand side by side."""
        first, second = agent(site)
        twin, page = site.twin(first), site.page(first)

        found = [(item["result"]["content"], item["result_in"]) for item in twin["answers"][0]["items"]]
        assert found == [("11 degrees", second.id), ("OS 51", second.id)]
        assert "2 calls side by side" in page.text
        assert any(link.endswith(f"requests/{second.id}") for link in page.links())

    def test_parameters_that_differ(self, site: Site) -> None:
        """Each parameter says whether the call before had it, and with which value."""
        _, second = agent(site)

        found = {each["name"]: (each["kind"], each["before"], each["now"]) for each in site.twin(second)["parameters"]}
        assert found == {"temperature": ("changed", 0, 0.7), "top_p": ("new", None, 1)}

    def test_the_same_step_comes_before_the_nearest(self, site: Site) -> None:
        """With two steps taking turns, a call goes on from the one of its own step; else from the nearest."""
        calls = [
            sent(QUESTION, session_id="s", node_id=f"root:{name}", start_ns=START + number * SECOND)
            for number, name in enumerate(("plan", "search", "plan"))
        ]
        other = sent(QUESTION, session_id="s", node_id="root:judge", start_ns=START + 9 * SECOND)
        site.write(*calls, other)

        kin = site.twin(calls[2])["kin"]
        assert (kin["previous_id"], kin["session_older"], kin["session_newer"]) == (calls[0].id, calls[1].id, other.id)
        assert site.twin(other)["kin"]["previous_id"] == calls[2].id
        assert site.twin(calls[0])["kin"]["previous_id"] is None

    def test_other_sessions_stay_apart(self, site: Site) -> None:
        """A call of another session or project is nobody's neighbour."""
        mine = sent(QUESTION, session_id="mine")
        site.write(mine, *(sent(QUESTION, session_id=name, project=project, start_ns=START - SECOND)
                           for name, project in (("mine", "theirs"), ("other", "default"))))  # fmt: skip

        kin = site.twin(mine)["kin"]
        assert (kin["session_older"], kin["previous_id"]) == (None, None)

    def test_ten_thousand_messages(self, site: Site) -> None:
        """A page shows the ends and says how many it leaves out; asked for, it shows all."""
        history = [{"role": "user", "content": f"say {number}"} for number in range(10_000)]
        long = sent(*history)
        site.write(long)
        answer = site.visitor().get(f"/requests/{long.id}")

        assert len(answer.content) < 150_000
        assert "say 9999" in answer.text and "9,952 messages are left out" in answer.text
        assert "say 5000" in site.visitor().get(f"/requests/{long.id}?whole=1").text


class TestCompared:
    """One call beside another."""

    def test_figures_and_words(self, site: Site) -> None:
        """Figures with their difference, messages aligned, answers word by word."""
        before = sent(QUESTION, duration_ns=SECOND, answer={"role": "assistant", "content": "It takes two hours."})
        now = sent(QUESTION, duration_ns=3 * SECOND, answer={"role": "assistant", "content": "It takes three hours."})
        site.write(before, now)
        twin, page = site.twin(now, f"?compare={before.id}"), site.page(now, f"?compare={before.id}")

        assert (twin["compared"], kinds(twin)) == (True, [("same", 1)])
        assert [each["text"] for each in twin["answer_words"] if each["kind"] != "same"] == ["two", "three"]
        assert "+2.00 s" in page.text

    def test_nothing_to_compare_with(self, site: Site) -> None:
        """An id that is not there is no page."""
        now = sent(QUESTION)
        site.write(now)

        assert site.visitor().get(f"/requests/{now.id}?compare=nothing").status == 404

    def test_what_is_gone(self) -> None:
        """Messages that are no longer sent are told, with those that came in their place."""
        texts = ["a", "b", "c", "d"]
        old, new = (
            request(messages=tuple(Message(role="user", parts=(Part(type="text", content=text),)) for text in some))
            for some in (texts, ["a", "d", "something quite different"])
        )
        found = [(step.kind, step.count) for step in steps_of(replace(old, output_messages=()), new, Calls())]

        assert found == [("same", 1), ("gone", 2), ("same", 1), ("new", 1)]

    @pytest.mark.parametrize(
        ("before", "now", "wanted"),
        [
            ("", "", []),
            ("same", "same", [("same", "same")]),
            ("", "new", [("new", "new")]),
            ("a b c", "a x c", [("same", "a "), ("gone", "b"), ("new", "x"), ("same", " c")]),
            ("one two three", "one 2 3", [("same", "one "), ("gone", "two three"), ("new", "2 3")]),
        ],
    )
    def test_words(self, before: str, now: str, wanted: list[tuple[str, str]]) -> None:
        """Words are replaced as words, and the pieces make up both texts."""
        assert [(each.kind, each.text) for each in difference(before, now)] == wanted

    def test_a_long_text(self) -> None:
        """A megabyte is compared at once, and what is alike is left out."""
        found = difference("word " * 200_000 + "old", "word " * 200_000 + "new")

        assert [each.kind for each in found] == ["left_out", "same", "gone", "new"]
        assert found[0] == Stretch(kind="left_out", text=str(1_000_000 - len(found[1].text)))


class TestTime:
    """Where the time went."""

    def retried(self) -> Any:
        made = request(duration_ns=5 * SECOND, headers_ns=4 * SECOND + 600 * MS, first_chunk_ns=4700 * MS,
                       first_token_ns=4800 * MS, stream=True, attempt=2,
                       response_headers=(("openai-processing-ms", "400"),))  # fmt: skip
        attempts = tuple(
            Attempt(request_id=made.id, number=number, start_ns=START + at, duration_ns=SECOND, outcome=outcome,
                    status=status, retry_after="3" if number == 1 else None, provider_request_id=f"req-{number}")
            for number, at, outcome, status in ((1, 0, "error", 429), (2, 4 * SECOND, "ok", 200))
        )  # fmt: skip
        return replace(made, attempts=attempts)

    def test_phases_fill_the_whole(self, site: Site) -> None:
        """Retries, headers, first chunk, first token and stream follow each other without a hole."""
        made = self.retried()
        site.write(made)
        twin = site.twin(made)

        assert [phase["kind"] for phase in twin["phases"]] == ["retry", "wait", "think", "think", "flow"]
        assert sum(phase["duration_ns"] for phase in twin["phases"]) == made.duration_ns
        assert twin["provider_time"] == [400 * MS, 200 * MS]

    def test_connecting_is_told_apart(self, site: Site) -> None:
        """Each stage of an attempt is a stretch; what took next to nothing goes with the one after it."""
        opened = {"queue": 0, "connect": 0, "tls": 40 * MS, "send": 100 * MS, "wait": 100 * MS + 5}
        made = replace(self.retried(), stages=opened)
        failed = replace(made.attempts[0], stages={"queue": 10_000, "connect": 30_000})
        made = replace(made, attempts=(failed, *made.attempts[1:]))
        alone = request(outcome="error", duration_ns=SECOND, stages=dict(failed.stages))
        site.write(made, alone)
        twin, page = site.twin(made), site.page(made)

        names = ["look up and connect", "TLS", "wait for headers", "until the first chunk"]
        assert [phase["name"] for phase in twin["phases"]][1:5] == names
        assert [phase["duration_ns"] for phase in twin["phases"]][1:4] == [40 * MS, 60 * MS, 500 * MS]
        assert sum(phase["duration_ns"] for phase in twin["phases"]) == made.duration_ns
        assert [phase["name"] for phase in twin["attempt_phases"]["1"]] == ["look up and connect"]
        assert "look up and connect 1.00 s" in page.text
        assert [phase["name"] for phase in site.twin(alone)["phases"]] == ["look up and connect"]

    def test_attempts_with_the_wait_between(self, site: Site) -> None:
        """Each attempt has its bar, the wait its own, and its status, Retry-After and request id are there."""
        made = self.retried()
        site.write(made)
        lane, page = site.twin(made)["attempt_lane"], site.page(made)

        assert [(bar["x"], bar["width"], bar["wait_ns"]) for bar in lane] == [(0, 200, 0), (800, 200, 3 * SECOND)]
        assert all(text in page.text for text in ("429", "req-1", "req-2", "after a wait of 3.00 s"))

    def test_what_an_earlier_attempt_was_told(self, site: Site) -> None:
        """Its limits and the beginning of its answer stand in its attempt; who may not read content sees neither."""
        made = replace(self.retried(), attempts=())
        early = replace(
            made, attempt=1, outcome="error", status=429, duration_ns=SECOND,
            response_headers=(("x-ratelimit-limit-requests", "3"), ("content-type", "application/json")),
            response_body=body({"error": {"message": "Slow down, please."}}),
        )  # fmt: skip
        site.write(early)
        site.write(made)
        page, told = site.page(made), site.twin(made, role="viewer")["request"]["attempts"][0]

        assert "x-ratelimit-limit-requests" in page.text and "Slow down, please." in page.text
        assert (told["response_headers"], told["response_preview"], told["status"]) == ([], None, 429)

    def test_standing_among_its_model(self, site: Site) -> None:
        """The slowest of a hundred calls of a model is told as that; of few calls nothing is said."""
        calls = [request(start_ns=START + n, duration_ns=(n + 1) * 10 * MS) for n in range(100)]
        few = request(request_model="rare", duration_ns=SECOND)
        site.write(*calls, few)

        slow = site.twin(calls[-1])["standing"]["duration_ns"]
        assert slow["calls"] == 100 and slow["share"] > 0.97
        assert site.twin(calls[49])["standing"]["duration_ns"]["share"] == pytest.approx(0.5, abs=0.05)
        assert site.twin(few)["standing"] == {}

    def test_a_stream_over_time(self, site: Site) -> None:
        """What had come at each moment, and the pause that is longer than nearly all others."""
        words = ["Bon", "jour", ", ", "ça", " va", "?"] * 5
        events = [
            b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode() + b"\n\n"
            for word in words
        ]
        ends, times = [], []
        for number, event in enumerate(events):
            ends.append((ends[-1] if ends else 0) + len(event))
            times.append(number * 10 * MS + (900 * MS if number > 20 else 0))
        made = request(
            stream=True, framing="sse", response_body=body(b"".join(events), "text/event-stream"), text="".join(words),
            chunk_times=tuple(zip(times, ends, strict=True)), chunks=len(events),
        )  # fmt: skip
        site.write(made)
        twin = site.visitor().get(f"/requests/{made.id}/stream.json").json
        lane = site.twin(made)["stream"]

        said = [twin["text"][: moment["text"]] for moment in twin["moments"]]
        assert said == ["".join(words[: number + 1]) for number in range(len(words))]
        assert [(gap["start_ns"], gap["duration_ns"]) for gap in lane["gaps"]] == [(200 * MS, 910 * MS)]
        assert "Bon" in site.visitor().get(f"/requests/{made.id}/stream").text

    def test_what_is_not_there_yet(self, site: Site) -> None:
        """Running, interrupted and told-only calls have pages that say so."""
        running = request(outcome="running", duration_ns=None, status=None, response_body=None, usage=None)
        cut = request(outcome="interrupted", duration_ns=None)
        bare = request(url=None, request_body=None, response_body=None, messages=())
        site.write(running, cut, bare)

        assert "still under way" in site.page(running).text
        assert "The process ended" in site.page(cut).text
        assert "copy/curl" not in " ".join(site.page(bare).links())


class TestPictures:
    """Images out of bodies."""

    def pictured(self, *contents: tuple[bytes, str]) -> Any:
        parts = [
            {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{base64.b64encode(content).decode()}"}}
            for content, kind in contents
        ]
        return sent({"role": "user", "content": parts})

    def test_an_image_is_what_its_bytes_say(self, site: Site) -> None:
        """It comes from our address with a fixed type, and whatever it claims, it can do nothing."""
        made = self.pictured((PICTURE, "text/html"), (b"\xff\xd8\xff\xe0 jpeg", "image/jpeg"))
        site.write(made)
        answer = site.visitor().get(f"/requests/{made.id}/pictures/{hashlib.sha256(PICTURE).hexdigest()}")

        assert (answer.status, answer.content, answer.header("content-type")) == (200, PICTURE, "image/png")
        assert answer.header("x-content-type-options") == "nosniff" and "sandbox" in answer.everything

    @pytest.mark.parametrize(
        "content", [b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", b"<html>", b"BM" * 40]
    )
    def test_other_things_are_no_images(self, site: Site, content: bytes) -> None:
        """What is none of four kinds is neither shown nor served."""
        made = self.pictured((content, "image/png"))
        site.write(made)

        assert site.visitor().get(f"/requests/{made.id}/pictures/{hashlib.sha256(content).hexdigest()}").status == 404
        assert not [tag for tag, attrs in site.page(made).tags if tag == "img" and "pictures" in attrs.get("src", "")]

    def test_thumbnails(self, site: Site) -> None:
        """The page shows what can be shown; a viewer is neither told nor given it."""
        made = self.pictured((PICTURE, "image/png"))
        site.write(made)
        digest = hashlib.sha256(PICTURE).hexdigest()

        shown = [attrs["src"] for tag, attrs in site.page(made).tags if tag == "img" and digest in attrs["src"]]
        assert len(shown) == 1
        assert site.visitor("viewer").get(f"/requests/{made.id}/pictures/{digest}").status == 403
        assert digest not in site.visitor("viewer").get(f"/requests/{made.id}").text


def test_markdown_is_inert(site: Site) -> None:
    """Markdown is shown where it is asked for; no link, picture or tag of it comes to life."""
    pytest.importorskip("nh3")
    text = (
        "**bold** [go](javascript:alert(1)) ![x](http://evil/x.png) <b onclick=x>raw</b> <http://evil>\n\n[a]: http://e"
    )
    made = sent({"role": "user", "content": text})
    site.write(made)
    page = site.page(made, "?markdown=1")

    assert ("strong", {}) in page.tags and "[go](javascript:alert(1))" in page.text
    assert not any("evil" in address or "javascript" in address for address in page.addresses())
    assert not any("onclick" in attrs for _, attrs in page.tags)
    assert "**bold**" in site.page(made).text
    assert render_markdown("x" * 300_000) is None


def test_a_panel_has_no_chrome(site: Site) -> None:
    """Beside a list the same page comes without menu and footer."""
    made = sent(QUESTION)
    site.write(made)
    tags = [tag for tag, _ in site.page(made, "?panel=1").tags]

    assert "nav" not in tags and "footer" not in tags and "h1" in tags


def test_a_viewer_sees_facts_only(site: Site) -> None:
    """Neither what was new nor a difference shows a word to whom prompts are hidden."""
    first, second = agent(site)
    for query in ("", f"?compare={first.id}", "?markdown=1", "?whole=1"):
        for target in (f"/requests/{second.id}{query}", f"/requests/{second.id}.json{query}"):
            text = site.visitor("viewer").get(target).text
            assert "10:42" not in text and "Kyoto" not in text and "degrees" not in text
    for tail in ("copy/curl", "copy/json", "stream", "stream.json", "replay"):
        assert site.visitor("viewer").get(f"/requests/{second.id}/{tail}").status == 403
