"""One request with all that is known of it: its page, copies to paste, its stream over time, bodies and pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from asgi_llmobs.admin.comparison import answer_difference, parameter_changes, steps_of
from asgi_llmobs.admin.conversation import Calls, calls_in, conversation, results_in
from asgi_llmobs.admin.curtain import bare_request
from asgi_llmobs.admin.judging import judged
from asgi_llmobs.admin.lanes import attempt_lane, attempt_phases, phases, provider_time, stream_lane
from asgi_llmobs.admin.markdown import available
from asgi_llmobs.admin.page import Download, File, NotFound, Page, Permission, View
from asgi_llmobs.admin.pictures import picture_of, pictures_in
from asgi_llmobs.admin.snippets import curl, pytest_fixture, python, sdk
from asgi_llmobs.admin.transcript import json_text, markdown
from asgi_llmobs.filters import Filter
from asgi_llmobs.pricing import Pricer, saved_by_cache
from asgi_llmobs.queries.kin import Kin, kin_of
from asgi_llmobs.queries.live import mark_now
from asgi_llmobs.queries.moments import moments_of
from asgi_llmobs.queries.requests import RequestDetail, find_request, get_request, request_with
from asgi_llmobs.queries.standing import standing_of
from asgi_llmobs.records import REPLAY_OF, Outcome, Part, Request

__all__ = ["ROUTES", "detail_of"]


class Form(NamedTuple):
    """A way to copy a request."""

    label: str
    make: Callable[[Request], str | None]
    sends: bool = True  # it makes a call, for which there must be an address


FORMS = {
    "curl": Form("curl", curl),
    "httpx": Form("Python (httpx)", python),
    "sdk": Form("Python (SDK)", sdk),
    "pytest": Form("pytest fixture", pytest_fixture),
    "json": Form("JSON", json_text, False),
    "markdown": Form("Markdown", markdown, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The call that a request is shown beside."""

    id: str
    relation: str
    model: str | None
    outcome: str
    status: int | None
    start_ns: int
    duration_ns: int | None
    first_token_ns: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    cost_reason: str | None


def detail_of(view: View) -> RequestDetail:
    """The request of the address, by its span id or by any other id that it is known as.

    Raises:
        NotFound: The project has none.
    """
    detail = get_request(view.database, view.params["id"], project=view.project)
    if detail is None:
        found = find_request(view.database, view.params["id"], view.project)
        detail = get_request(view.database, found, project=view.project) if found else None
    if detail is None:
        raise NotFound
    return detail


def load_one(view: View) -> dict[str, Any]:
    """The request, and what was new in it since the one before it, or beside the one that is to be compared."""
    detail, mark = detail_of(view), None
    if detail.request.outcome == Outcome.RUNNING:
        mark = mark_now(view.database, Filter(project=view.project, trace=(detail.request.trace_id,)))
        detail = detail_of(view)  # it may have ended before the mark was set
    kin = kin_of(view.database, detail.request)
    request, before = seen(view, detail.request), beside(view, detail.request, kin)
    elsewhere = calls_elsewhere(view, request, before, kin)
    steps = [] if not view.content else steps_of(before, request, elsewhere, whole=view.get("whole") == "1")
    compared = bool(view.get("compare"))
    return {
        "panel": view.get("panel") == "1",  # without what surrounds a page
        "request": request,
        "mark": mark,  # from which news of its end are told; only while it runs
        "latency_ms": request.latency_ms,
        "time_to_first_token_ms": request.time_to_first_token_ms,
        "buckets": request.usage.buckets() if request.usage else {},
        "cost_usd": request.cost_usd,
        "formula": request.cost.formula,
        "cache_saved_usd": saved(view, request),
        "conversation": conversation(request.messages, request.output_messages, elsewhere),
        "newer_id": detail.newer_id,
        "older_id": detail.older_id,
        "trace": detail.trace,
        "judged": judged(view, "span", request.id, trace_id=request.trace_id, session_id=request.session_id),
        "input_omitted": detail.input_omitted,
        "output_omitted": detail.output_omitted,
        "kin": kin,
        "original": request.properties.get(REPLAY_OF),
        "before": None if before is None else told(before, "chosen" if compared else kin.relation or ""),
        "compared": compared,
        "steps": steps,
        "answers": conversation((), request.output_messages, elsewhere),
        "answer_words": answer_difference(before, request) if compared and before is not None else [],
        "parameters": parameter_changes(before.parameters if before is not None else None, request.parameters),
        "phases": phases(request),
        "provider_time": provider_time(detail.request),
        "attempt_lane": attempt_lane(request),
        "attempt_phases": attempt_phases(request),
        "stream": stream_lane(request),
        "standing": standing_of(view.database, request),
        "pictures": sorted(pictures_in(request)) if view.content else [],
        "forms": forms_of(request) if view.content else {},
        "may_replay": view.replay is not None and view.may(Permission.OPERATE) and bool(request.url),
        "markdown": markdown_mode(view),
        "whole": view.get("whole") == "1",
        "left_out": sum(step.left_out for step in steps),
    }


def saved(view: View, request: Request) -> Decimal | None:
    """What the provider's cache saved; ``None`` where it was not used, or the price is not ours to know."""
    usage, model = request.usage, request.request_model or request.response_model
    if usage is None or not (usage.cache_read or usage.cache_write) or not model or request.cost.amount is None:
        return None
    rates = Pricer(view.config.prices).rates(request.provider, model, request.start_ns)
    return saved_by_cache(rates, usage.buckets(), usage.input_tokens or 0)


def seen(view: View, request: Request) -> Request:
    """What the visitor may see of a request."""
    return request if view.content else bare_request(request)


def beside(view: View, request: Request, kin: Kin) -> Request | None:
    """The call to compare with: the one that was asked for, else the previous one."""
    wanted = view.get("compare") or kin.previous_id
    found = request_with(view.database, wanted, project=view.project) if wanted else None
    if found is None and view.get("compare"):
        raise NotFound
    return None if found is None else seen(view, found)


def told(before: Request, relation: str) -> Before:
    return Before(
        id=before.id,
        relation=relation,
        model=before.request_model,
        outcome=str(before.outcome),
        status=before.status,
        start_ns=before.start_ns,
        duration_ns=before.duration_ns,
        first_token_ns=before.first_token_ns,
        input_tokens=before.input_tokens,
        output_tokens=before.output_tokens,
        cost_usd=before.cost_usd,
        cost_reason=before.cost.reason,
    )


def calls_elsewhere(view: View, request: Request, before: Request | None, kin: Kin) -> Calls:
    """Tool calls that an earlier request brought, and results of this one's calls that a later request brings."""
    made = calls_in((*before.messages, *before.output_messages)) if before is not None else {}
    waiting = set(calls_in(request.output_messages))
    answered: dict[str, tuple[Part, str]] = {}
    for id in kin.after if view.content else ():
        if not waiting:
            break
        later = request_with(view.database, id, project=view.project)
        results: Mapping[str, Part] = results_in(later.messages) if later is not None else {}
        answered.update({call: (results[call], id) for call in waiting & set(results)})
        waiting -= set(results)
    return Calls(made=made, answered=answered)


def forms_of(request: Request) -> dict[str, str]:
    """The ways in which a request can be copied, by what they are called in its address."""
    return {
        name: form.label
        for name, form in FORMS.items()
        if (request.url or not form.sends) and (name not in ("sdk", "pytest") or form.make(request) is not None)
    }


def markdown_mode(view: View) -> str:
    """``on``, ``off``, or nothing where it cannot be shown."""
    if not (view.content and available()):
        return ""
    return "on" if view.get("markdown") == "1" else "off"


def load_copy(view: View) -> dict[str, Any]:
    """One form of the request, to paste."""
    form, request = FORMS.get(view.params["form"]), detail_of(view).request
    text = form.make(request) if form is not None and (request.url or not form.sends) else None
    if form is None or text is None:
        raise NotFound
    return {"request": bare_request(request), "label": form.label, "text": text, "forms": forms_of(request)}


def load_stream(view: View) -> dict[str, Any]:
    """What the stream had said at each moment."""
    request = detail_of(view).request
    return {
        "request": bare_request(request),
        "moments": moments_of(request),
        "text": request.text,
        "reasoning": request.reasoning_text,
    }


def load_picture(view: View) -> File:
    """An image out of a body."""
    found = picture_of(detail_of(view).request, view.params["sha256"])
    if found is None:
        raise NotFound
    content, kind = found
    return File(content=content, name="picture", image_type=kind)


def download(part: str) -> Any:
    """The load function that hands out one of the two bodies."""

    def load(view: View) -> File:
        detail = get_request(view.database, view.params["id"], project=view.project)
        body = getattr(detail.request, f"{part}_body") if detail is not None else None
        if body is None:
            raise NotFound
        suffix = "bin" if b"\0" in body.content[:1024] else "txt"
        return File(content=body.content, name=f"{part}-body.{suffix}")

    return load


ROUTES = (
    Page(
        slug="requests/{id}", title="Request", template="pages/request.html", load=load_one, permission=Permission.VIEW
    ),
    Page(
        slug="requests/{id}/copy/{form}",
        title="Copy",
        template="pages/copy.html",
        load=load_copy,
        permission=Permission.READ,
    ),
    Page(
        slug="requests/{id}/stream",
        title="Stream",
        template="pages/stream.html",
        load=load_stream,
        permission=Permission.READ,
    ),
    Download(slug="requests/{id}/request-body", load=download("request"), permission=Permission.READ),
    Download(slug="requests/{id}/response-body", load=download("response"), permission=Permission.READ),
    Download(slug="requests/{id}/pictures/{sha256}", load=load_picture, permission=Permission.READ),
)
