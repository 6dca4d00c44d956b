"""Settings, help, status, and going straight to what one knows the name of."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.config import OPTIONS, Config
from asgi_llmobs.queries.jump import meant
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.admin.reading import read
from tests.admin.seeding import fill
from tests.admin.visiting import Visitor
from tests.making import SECOND, request


def everybody(_: Any) -> str:
    return "owner"


class TestSettings:
    """Every option, its value, where it came from, how to change it."""

    def options(self, database: Database, config: Config, **environ: str) -> dict[str, Any]:
        visitor = Visitor(Admin(database=database, config=config, auth=everybody, environ=environ))
        found: dict[str, Any] = visitor.get("/settings.json").json
        return found

    def test_where_a_value_came_from(self, database: Database) -> None:
        """An argument, the environment or the default; and what the default would be."""
        config = Config.make({"LLMOBS_SERVICE": "from outside", "LLMOBS_SAMPLE": "0.5"}, sample=0.25, project="shop")
        rows = {row["name"]: row for row in self.options(database, config)["options"]}

        assert set(rows) == {item.name for item in OPTIONS}
        assert (rows["sample"]["origin"], rows["sample"]["value"], rows["sample"]["default"]) == (
            "argument",
            "0.25",
            "1.0",
        )
        assert (rows["service"]["origin"], rows["service"]["value"]) == ("environment", "from outside")
        assert (rows["project"]["origin"], rows["release"]["origin"]) == ("argument", "default")
        assert rows["service"]["environment"] == "LLMOBS_SERVICE" and rows["auth"]["environment"] is None

    def test_no_secret(self, database: Database) -> None:
        """Addresses lose their password and query, and what may hold a secret is only said to be set."""
        secret = "hunter2"
        config = Config.make(
            {},
            store=f"postgresql://ada:{secret}@db.example/x?sslpassword={secret}",
            export=[f"https://me:{secret}@otel.example/v1?key={secret}"],
            redact=[secret],
            prices={secret: {"input": 1}},
        )
        visitor = Visitor(
            Admin(database=database, config=config, auth=everybody, environ={"LLMOBS_INGEST_TOKEN": secret})
        )

        for path in ("/settings", "/settings.json", "/status", "/status.json"):
            assert secret not in visitor.get(path).everything
        told = visitor.get("/settings.json").json
        rows = {row["name"]: row["value"] for row in told["options"]}
        assert rows["store"] == "postgresql://db.example/x" and rows["export"] == "https://otel.example/v1"
        assert rows["redact"] == rows["prices"] == "set" and rows["user"] == "not set"
        assert {row["name"]: row["set"] for row in told["variables"]}["LLMOBS_INGEST_TOKEN"] is True
        assert {row["name"]: row["set"] for row in told["variables"]}["LLMOBS_STRICT"] is False

    def test_a_config_made_by_hand(self, database: Database) -> None:
        """What is not the default was an argument then."""
        rows = {row["name"]: row["origin"] for row in self.options(database, Config(service="a"))["options"]}

        assert rows["service"] == "argument" and rows["release"] == "default"


class TestHelp:
    """What the words mean and what the keys do."""

    def test_it_says_what_a_trace_is(self, database: Database) -> None:
        """In ten lines, for every role, with the keys that the menu has."""
        visitor = Visitor(Admin(database=database, auth=lambda request: "metrics", environ={}))
        page, twin = read(visitor.get("/help").text), visitor.get("/help.json").json

        assert len(twin["words"]) == 10 and {"trace", "session"} <= {each["word"] for each in twin["words"]}
        for each in twin["words"]:
            assert each["means"] in page.text
        owner = read(Visitor(Admin(database=database, auth=everybody, environ={})).get("/help").text)
        shown = [attrs["data-go"] for tag, attrs in owner.tags if tag == "a" and "data-go" in attrs]
        assert len(shown) == len(set(shown)) >= 7 and set(shown) <= set(twin["goes"].values())

    def test_its_searches_are_understood(self, database: Database) -> None:
        """What the page says one may write can be written."""
        visitor = Visitor(Admin(database=database, auth=everybody, environ={}))
        for search, _ in visitor.get("/help.json").json["searches"]:
            assert visitor.get(f"/requests.json?q={quote(search)}").status == 200, search


@pytest.fixture
def filled(database: Database) -> Iterator[dict[str, Any]]:
    yield fill(database)


class TestJump:
    """From a name to its page."""

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("mine-1", "./requests/{first}"),
            ("ab" * 16, "./traces/" + "ab" * 16),
            (" trip-1 ", "./sessions/trip-1"),
            ("ada", "./requests?user=ada"),
            ("claude-haiku", "./requests?model=claude-haiku"),
        ],
    )
    def test_a_whole_name(self, database: Database, filled: dict[str, Any], text: str, place: str) -> None:
        """It leads straight on."""
        visitor = Visitor(Admin(database=database, auth=everybody, environ={}))
        answer = visitor.get(f"/jump?to={text}")

        assert (answer.status, answer.location) == (303, place.format(first=filled["first"].id))

    def test_a_beginning(self, database: Database, filled: dict[str, Any]) -> None:
        """It lists what begins so, in the page and in JSON alike."""
        visitor = Visitor(Admin(database=database, auth=everybody, environ={}))
        page, twin = visitor.get("/jump?to=tri"), visitor.get("/jump.json?to=tri").json

        assert twin["found"] == [{"kind": "session", "name": "trip-1", "to": "sessions/trip-1"}]
        assert "sessions/trip-1" in page.text and page.status == 200
        assert "Nothing has this id" in visitor.get("/jump?to=zzz").text
        assert visitor.get("/jump.json?to=").json["found"] == []

    def test_of_one_project(self, database: Database) -> None:
        """Names of another project mean nothing here."""
        fill(database, project="theirs")

        assert meant(database, "ada", project="default") == [] and meant(database, "ada", project="theirs")


DAY = 86_400 * SECOND


class TestStatus:
    """What grows, until when there is room, and what a killed process would lose."""

    def status(self, database: Database, **options: Any) -> dict[str, Any]:
        config = Config.make({}, **options)
        stats = {"captured": 0, "stored": 0, "spooled": 0, "dropped": {}, "failures": {}, "last_error": None}
        stats["durable"] = options.get("spool_bytes", 1) != 0
        admin = Admin(database=database, config=config, auth=everybody, environ={}, stats=lambda: stats)
        found: dict[str, Any] = Visitor(admin).get("/status.json").json
        return found

    def test_growth(self, database: Database) -> None:
        """Fourteen requests in the last week, half of the project's: two a day, and as many bytes as they have."""
        now = time.time_ns()
        half = [request(start_ns=now - at * DAY // 2) for at in range(14)]
        Sink(database).write([*half, *(request(start_ns=now - 30 * DAY) for _ in range(14))])
        grown = self.status(database)["growth"]

        assert grown["requests_a_day"] == pytest.approx(2, rel=0.2) and grown["spans"] == 28
        assert grown["bytes_a_day"] == pytest.approx(grown["requests_a_day"] * grown["size_bytes"] / 28)

    @pytest.mark.parametrize(
        ("retention", "said"),
        [
            (None, "Everything is kept. In 30 days this will be about"),
            ("30d", "Kept for 30 d 00 h: at this rate about"),
            ("1TB", "nothing came in the last week"),
            ("2", "Kept up to 2 spans: the oldest traces go as new ones come."),
            ("30d,bodies=7d", "Bodies and texts go after 7 d 00 h; their spans stay."),
            ("other: 1d", "Everything is kept."),
        ],
    )
    def test_forecast(self, database: Database, retention: str | None, said: str) -> None:
        """Each limit in a sentence, with when it is reached."""
        Sink(database).write([request(start_ns=time.time_ns() - 30 * DAY) for _ in range(3)])

        assert said in " ".join(self.status(database, retention=retention)["forecast"])

    def test_when_a_limit_is_reached(self, database: Database) -> None:
        """Seven a day up to a hundred, seven there: in about 13 days."""
        Sink(database).write([request(start_ns=time.time_ns() - at * SECOND) for at in range(7)])

        (line, _) = self.status(database, retention="100")["forecast"]
        assert line.startswith("Kept up to 100 spans: reached in about 13 d")

    def test_why_it_waits_in_memory(self, database: Database) -> None:
        """No without a reason is no answer."""
        assert self.status(database)["memory_only"] is None
        assert "spool_bytes is 0" in self.status(database, spool_bytes=0)["memory_only"]
