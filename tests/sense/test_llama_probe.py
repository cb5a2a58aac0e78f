"""What is asked of a llama.cpp server, and what is made of its answers."""

import asyncio
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from supervisor.model.news import Purpose
from supervisor.model.reading import Missing
from supervisor.model.serving import Serving, SlotProgress
from supervisor.sense.llama_probe import LlamaProbe, Seen
from support.probing import Pages, answer, free_port, serving

PATIENCE_S = 20.0
IMPATIENCE_S = 0.3
LOADING = answer(
    "503 Service Unavailable",
    b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}',
)
NO_SLOTS = answer("501 Not Implemented", b'{"error":{"code":501,"message":"no support"}}')
NO_KEY = answer("401 Unauthorized", b'{"error":{"code":401,"message":"Invalid API Key"}}')
PROPS = answer("200 OK", b'{"total_slots":4,"is_sleeping":false}')
WELL = answer("200 OK", b'{"status":"ok"}')
UNTOLD = "cannot tell whether it is idle: "


def page(document: object) -> bytes:
    return answer("200 OK", json.dumps(document).encode())


def slot(number: int, *, busy: bool = True, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"id": number, "is_processing": busy, **more}


def ask(pages: Pages, purpose: Purpose = "health", path: str = "", timeout_s: float = PATIENCE_S) -> Seen:
    async def once() -> Seen:
        probe = LlamaProbe()
        async with serving(pages) as port:
            try:
                return await probe.ask(f"http://127.0.0.1:{port}{path}", timeout_s, purpose)
            finally:
                probe.close()

    return asyncio.run(once())


def test_busy_slots_are_told_with_how_far_they_have_come() -> None:
    slots = [
        slot(0, id_task=7, n_prompt_tokens_processed=2048, next_token=[{"n_decoded": 3}]),
        slot(1, busy=False),
        slot(2, id_task=9, n_prompt_tokens_processed=12, next_token={"n_decoded": 0}),  # before 2025
    ]
    progress = (SlotProgress(0, 7, 2048, 3), SlotProgress(2, 9, 12, 0))
    seen = ask(Pages({"/props": PROPS, "/slots": page(slots)}))
    assert seen == Seen(good=True, detail="2 requests under way", serving=Serving("up", 2, progress))


def test_slots_that_tell_no_progress_are_busy_all_the_same() -> None:
    seen = ask(Pages({"/slots": page([slot(0), slot(1)])}))
    assert seen.serving == Serving("up", 2, Missing("its slots tell no progress"))


def test_counters_stand_for_the_progress_of_slots_that_are_not_shown() -> None:
    metrics = (
        b"# HELP llamacpp:prompt_tokens_total x\nllamacpp:prompt_tokens_total 20\nllamacpp:n_decode_total 9\n"
        b"llamacpp:tokens_predicted_total 1e1\nllamacpp:requests_processing 1\nllamacpp:requests_deferred 2\n"
    )
    pages = Pages({"/props": PROPS, "/slots": NO_SLOTS, "/metrics": answer("200 OK", metrics)})
    assert ask(pages).serving == Serving("up", 3, (SlotProgress(-1, -1, 20, 19),))
    assert ask(pages, "drain") == Seen(
        good=False,
        detail="3 requests under way",
        serving=Serving("up", 3, (SlotProgress(-1, -1, 20, 19),)),
    )


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        (
            {"/props": PROPS, "/slots": NO_SLOTS, "/metrics": NO_SLOTS},
            "it runs with --no-slots and without --metrics",
        ),
        ({"/props": NO_KEY, "/health": WELL}, "its slots need an API key"),
        ({"/slots": NO_KEY, "/health": WELL}, "its slots need an API key"),
        (
            {"/props": PROPS, "/slots": NO_SLOTS, "/metrics": answer("200 OK", b"up 1\n")},
            "its metrics hold no llamacpp:requests_processing",
        ),
        (
            {
                "/props": PROPS,
                "/slots": NO_SLOTS,
                "/metrics": answer("200 OK", b"llamacpp:requests_processing 1e30\n"),
            },
            "its metrics hold a number that is none",
        ),
    ],
)
def test_a_server_that_tells_nothing_of_its_requests_is_well_and_never_idle(
    pages: Mapping[str, bytes], why: str
) -> None:
    serving = Serving("up", Missing(why), Missing(why))
    assert ask(Pages(pages)) == Seen(good=True, detail=UNTOLD + why, serving=serving)
    assert ask(Pages(pages), "drain") == Seen(good=False, detail=UNTOLD + why, serving=serving)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[1]",
        b'[{"id":0}]',
        b"\xff",
        b"",
        b'[{"is_processing":"no"}]',
        b'[{"is_processing":true,"id":1e400}]',
        b'[{"is_processing":true,"id":99999999999999999999999}]',
        b'[{"is_processing":true,"next_token":[{"n_decoded":-9e99}]}]',
        b'[{"is_processing":false},' * 200_000,
        b"[" * 100_000,
    ],
)
def test_slots_that_cannot_be_read_are_neither_idle_nor_a_fault_of_the_server(body: bytes) -> None:
    pages = {"/props": PROPS, "/slots": answer("200 OK", body)}
    seen = ask(Pages(pages))
    assert seen.good
    assert seen.serving is not None
    assert isinstance(seen.serving.busy, Missing)
    assert seen.serving.busy.why.startswith("cannot read its slots: ")
    assert not ask(Pages(pages), "drain").good


def test_of_thousands_of_slots_only_some_are_kept() -> None:
    slots = [slot(number, n_prompt_tokens_processed=1) for number in range(5000)]
    serving = ask(Pages({"/props": PROPS, "/slots": page(slots)})).serving
    assert serving is not None
    assert serving.busy == 5000
    assert not isinstance(serving.progress, Missing)
    assert len(serving.progress) == 256


def test_a_server_whose_queue_does_not_answer_is_blocked_and_not_gone() -> None:
    why = Missing("its task queue does not answer")
    pages = Pages({"/props": PROPS, "/health": WELL}, "/slots")
    seen = ask(pages, timeout_s=IMPATIENCE_S)
    assert seen == Seen(good=True, detail=UNTOLD + why.why, serving=Serving("blocked", why, why))
    assert not ask(pages, "drain", timeout_s=IMPATIENCE_S).good


def test_a_server_that_answers_nothing_at_all_is_gone() -> None:
    assert ask(Pages({}, "/props"), timeout_s=IMPATIENCE_S) == Seen(
        good=False, detail="no answer within 0.3s"
    )
    url = f"http://127.0.0.1:{free_port()}"
    seen = asyncio.run(LlamaProbe().ask(url, PATIENCE_S, "health"))
    assert seen == Seen(good=False, detail="connection refused")


@pytest.mark.parametrize(
    ("pages", "detail"),
    [
        ({}, "404 Not Found"),
        ({"/props": PROPS, "/slots": answer("500 Oh")}, "500 Oh"),
        ({"/props": NO_KEY, "/health": answer("500 Oh")}, "500 Oh"),
    ],
)
def test_an_answer_of_an_error_is_bad(pages: Mapping[str, bytes], detail: str) -> None:
    assert ask(Pages(pages)) == Seen(good=False, detail=detail)


def test_a_sleeping_server_is_idle_and_is_not_woken() -> None:
    pages = Pages({"/props": answer("200 OK", b'{"is_sleeping":true}'), "/slots": page([slot(0)])})
    for purpose in ("drain", "health"):
        assert ask(pages, purpose) == Seen(good=True, detail="asleep", serving=Serving("asleep", 0, ()))
    assert pages.asked == ["/props", "/props"]


def test_a_server_that_loads_is_neither_bad_nor_idle() -> None:
    loading = Missing("503 Loading model")
    pages = Pages({"/props": LOADING, "/slots": LOADING, "/health": LOADING})
    seen = ask(pages)
    assert (seen.good, seen.serving) == (True, Serving("loading", loading, loading))
    assert not ask(pages, "drain").good
    assert ask(pages, "ready") == Seen(good=False, detail="503 Loading model")


def test_a_server_with_a_model_is_ready_whoever_may_read_its_properties() -> None:
    for props in (PROPS, NO_KEY, answer("404 Not Found")):
        seen = ask(Pages({"/health": WELL, "/props": props}), "ready")
        assert seen == Seen(good=True, detail="its model is loaded")


MODELS = {
    "data": [
        {"id": "a b", "status": {"value": "loaded"}},
        {"id": "off", "status": {"value": "unloaded"}},
        {"id": "nap", "status": {"value": "sleeping"}},
        {"id": "c", "status": {"value": "loaded"}},
        {"id": "no-status"},
    ]
}
ROUTER = answer("200 OK", b'{"role":"router","model_path":"none"}')


def test_a_router_is_never_ready_as_a_server_of_one_model() -> None:
    seen = ask(Pages({"/health": WELL, "/props": ROUTER}), "ready")
    assert not seen.good
    assert seen.detail.startswith(
        "it routes between models and serves none: its command names none (--model)"
    )


def test_of_a_router_only_loaded_models_are_asked_and_none_is_loaded_for_it() -> None:
    pages = Pages(
        {
            "/props": ROUTER,
            "/models": page(MODELS),
            "/slots?model=a+b&autoload=false": page([slot(0, id_task=1, n_prompt_tokens_processed=5)]),
            "/slots?model=c&autoload=false": page([slot(0, busy=False)]),
        }
    )
    seen = ask(pages)
    assert seen.serving == Serving("up", 1, (SlotProgress(0, 1, 5, 0, "a b"),))
    assert pages.asked == [
        "/props",
        "/models",
        "/slots?model=a+b&autoload=false",
        "/slots?model=c&autoload=false",
    ]


def test_a_router_of_which_one_model_cannot_be_asked_is_not_idle() -> None:
    pages = Pages(
        {
            "/props": ROUTER,
            "/models": page(MODELS),
            "/slots?model=c&autoload=false": page([slot(0, busy=False)]),
        }
    )
    assert ask(pages, "drain").detail == f"{UNTOLD}model a b: 404 Not Found"


def test_the_path_and_the_query_of_a_url_are_kept() -> None:
    pages = Pages({"/api/slots?model=x": page([slot(0, busy=False)])})
    assert ask(pages, "drain", "/api/?model=x") == Seen(
        good=True, detail="idle", serving=Serving("up", 0, ())
    )


def test_the_queue_is_asked_once_in_a_while_however_often_and_for_whatever_one_asks() -> None:
    pages = Pages({"/props": PROPS, "/slots": page([slot(0, busy=False)])})

    async def hurry() -> None:
        probe = LlamaProbe()
        async with serving(pages) as port:
            url = f"http://127.0.0.1:{port}"
            for purpose in ("health", "drain", "drain"):
                assert (await probe.ask(url, 0.2, purpose)).good
        probe.close()

    asyncio.run(hurry())
    at_s = [when for path, when in zip(pages.asked, pages.asked_s, strict=True) if path == "/slots"]
    assert len(at_s) == 3
    assert min(later - earlier for earlier, later in pairwise(at_s)) >= 1.0


def test_a_blocked_queue_has_one_question_waiting_and_its_late_answer_is_not_believed() -> None:
    pages = Pages({"/props": PROPS, "/slots": page([slot(0, busy=False)])}, "/slots")

    async def patient() -> list[str]:
        probe = LlamaProbe()
        told: list[str] = []
        async with serving(pages) as port:
            url = f"http://127.0.0.1:{port}"
            for _ in range(3):
                seen = await probe.ask(url, 0.1, "drain")
                told.append(seen.serving.state if seen.serving else "")
            assert pages.asked.count("/slots") == 1
            pages.pages["/slots"] = page([slot(0)])
            pages.free()  # it answers the old question now, with what is true now
            told.append((await probe.ask(url, PATIENCE_S, "drain")).detail)
        probe.close()
        return told

    assert asyncio.run(patient()) == ["blocked", "blocked", "blocked", "1 requests under way"]
