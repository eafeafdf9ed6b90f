"""The page in a real browser, before a real run."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_browser import NASTY, OPERATOR, VIEWER, WORKERS, Look, finished_run, guarded, submit

from neurofed.client import AggregatorClient
from neurofed.launch import LocalFleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TAGS = "headings => headings.map((heading) => heading.tagName)"
CONTRAST = """(names) => {
  const style = getComputedStyle(document.documentElement);
  const [a, b] = names.map((name) => {
    const hex = style.getPropertyValue(`--${name}`).trim();
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  });
  return Math.max(a, b) / Math.min(a, b);
}"""  # the contrast ratio of WCAG 2.2


def wait_until(page: Any, holds: Callable[[], bool], what: str, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        page.wait_for_timeout(50)


def round_shown(page: Any) -> int:
    words = page.locator("#round-words").inner_text()
    return int(words.split()[1]) if words.startswith("Round") else 0


def card(page: Any, name: str) -> Any:
    return page.locator("article.worker", has=page.get_by_role("heading", name=name, exact=True))


def test_a_run_as_it_goes_on(look: Look, federation: LocalFleet, client: AggregatorClient, pictures: Path) -> None:
    page = look.at(federation.url)
    submit(client, "live")
    page.get_by_role("heading", name="live running").wait_for()
    wait_until(page, lambda: round_shown(page) >= 3, "rounds that go by without anybody touching the page")
    assert page.locator("article.worker").count() == WORKERS
    assert "J" in page.locator("#tiles").inner_text()
    assert page.locator("#energy tr").count() == 4  # FP, BP, WG, UPDATE
    assert page.locator("#layers tbody tr").count() >= 2
    assert page.locator("#samples img").first.evaluate("image => image.complete && image.naturalWidth > 0")
    assert page.locator(".federation .node").count() == WORKERS
    assert "evaluated" in page.locator("#log").inner_text()
    assert page.locator("#link").inner_text() == "live"
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            other = look.at(federation.url, width, scheme)
            other.get_by_role("heading", name="live running").wait_for()
            other.wait_for_timeout(500)
            other.screenshot(path=pictures / f"live-{width}-{scheme}.png", full_page=True)
            assert other.evaluate("document.documentElement.scrollWidth") <= width
            other.close()

    page.get_by_role("button", name="Pause").click()
    page.get_by_role("heading", name="live paused").wait_for()
    rests = round_shown(page)
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("heading", name="live running").wait_for()
    wait_until(page, lambda: round_shown(page) > rests + 1, "rounds after the pause")

    victim = federation.workers[1]
    victim.kill()
    killed_s = time.monotonic()
    lost = card(page, "worker-1").locator(".pill.lost")
    lost.wait_for(timeout=15_000)
    assert time.monotonic() - killed_s < 15
    red = card(page, "worker-1").evaluate("card => getComputedStyle(card).borderTopColor")
    assert red == page.evaluate("getComputedStyle(document.querySelector('#stop')).color")  # the colour of danger
    page.screenshot(path=pictures / "lost-1280.png", full_page=True)

    card(page, "worker-2").get_by_role("button", name="Drain worker-2").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    wait_until(page, lambda: card(page, "worker-2").locator(".pill.left").count() == 1, "a worker that leaves")

    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.wait_for_timeout(300)
    assert "running" in page.locator("#run-state").inner_text()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    page.get_by_role("heading", name="live stopped").wait_for()


def test_two_runs_side_by_side(look: Look, federation: LocalFleet, pictures: Path) -> None:
    page = look.at(f"{federation.url}#earlier")
    page.get_by_role("heading", name="earlier completed").wait_for()
    page.get_by_label("Compare earlier").check()
    assert page.get_by_role("button", name="Compare two").is_disabled()
    page.get_by_label("Compare hostile").check()
    page.get_by_role("button", name="Compare two").click()
    page.get_by_role("heading", name="earlier and hostile").wait_for()
    row = page.locator("#compare-rows tr", has_text="accuracy (measured)")
    assert row.locator("td").all_inner_texts() == ["50.0 %", "40.0 %"]
    page.locator("#history").screenshot(path=pictures / "compared.png")


def test_hostile_words_are_words(look: Look, federation: LocalFleet) -> None:
    page = look.at(f"{federation.url}#hostile")
    page.get_by_role("heading", name="hostile completed").wait_for()
    for panel in ("#workers", "#samples", "#log", "#layers", "#dram", "#energy"):
        wait_until(page, lambda p=panel: NASTY in page.locator(p).inner_text(), f"words in {panel}")  # type: ignore[misc]
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img[src=x]").count() == 0


def test_the_keyboard_is_enough(look: Look, federation: LocalFleet) -> None:
    page = look.at(f"{federation.url}#earlier")
    page.get_by_role("heading", name="earlier completed").wait_for()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''")
        )
    assert {"pick", "theme", "log", "Compare earlier"} <= reached
    assert page.locator("#log").get_attribute("role") == "log"
    for image in page.locator("img, svg[role=img]").all():
        assert image.get_attribute("alt") is not None or image.get_attribute("aria-label")


def test_dark_and_light_are_kept(look: Look, federation: LocalFleet) -> None:
    page = look.at(f"{federation.url}#earlier")
    page.get_by_role("heading", name="earlier completed").wait_for()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between dark and light").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_an_aggregator_that_is_gone_is_missed_and_found_again(look: Look, tmp_path: Path) -> None:
    with LocalFleet("127.0.0.1:0", tmp_path / "runs", tmp_path / "logs", (), http="0") as fleet:
        page, port = look.at(fleet.url), fleet.url.rstrip("/").rpartition(":")[2]
        page.get_by_role("heading", name="No run yet").wait_for()
        with AggregatorClient(fleet.address) as client:
            submit(client, "watched")
        page.get_by_role("heading", name="watched waiting").wait_for()
        page.locator("#link.live").wait_for()
    page.locator("#link.lost").wait_for()
    assert page.locator("#link").inner_text() == "lost, retrying"
    assert page.get_by_role("heading", name="watched").is_visible()  # what was known is still to be seen
    submitted = page.locator("#log li", has_text="run submitted")
    with LocalFleet("127.0.0.1:0", tmp_path / "runs", tmp_path / "logs", (), http=port):
        page.locator("#link:not(.lost)").wait_for()
        assert submitted.count() == 1  # and comes no second time
    page.close()
    look.complaints.clear()  # the browser tells of each request that nobody answered


def test_a_run_that_is_none(look: Look, federation: LocalFleet) -> None:
    page = look.at(f"{federation.url}#no-such-run")
    page.get_by_role("alert").filter(has_text="This aggregator has no run no-such-run.").wait_for()
    page.locator("#run-name").filter(has_text=re.compile(".")).wait_for()  # and the newest is shown


def test_a_token_opens_the_page_and_a_viewers_no_door_more(look: Look, tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", "past", (0.2, 0.5))
    with guarded(tmp_path) as url:
        page = look.at(url)
        page.get_by_label("Token").fill("not-a-token-of-anybody")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").filter(has_text="expected a token that counts").wait_for()
        assert not page.locator("#run, #history").locator("visible=true").count()
        page.get_by_label("Token").fill(VIEWER)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="past completed").wait_for()
        assert not page.locator("#controls button, .worker button").locator("visible=true").count()
        refused = page.evaluate(
            "fetch('/api/runs/past/resume', {method: 'POST', headers: {'X-NeuroFed': '1'}}).then((r) => r.status)"
        )
        assert refused == 403
        boss = look.at(url)
        boss.get_by_label("Token").fill(OPERATOR)
        boss.keyboard.press("Enter")
        boss.get_by_role("heading", name="past completed").wait_for()
        page.close()
        boss.close()
    look.complaints = [heard for heard in look.complaints if "401" not in heard and "403" not in heard]


def test_controls_and_pictures_have_names_and_words_have_contrast(look: Look, federation: LocalFleet) -> None:
    for scheme in ("light", "dark"):
        page = look.at(f"{federation.url}#hostile", scheme=scheme)
        page.get_by_role("heading", name="hostile completed").wait_for()
        page.locator("#samples img").wait_for()
        nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        named = [(node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node and "role" in node]
        wanted = ("button", "checkbox", "combobox", "img", "link", "log", "progressbar")
        assert {role for role, _ in named} >= {
            "button",
            "checkbox",
            "combobox",
            "progressbar",
            "log",
            "status",
            "table",
        }
        assert not [role for role, name in named if role in wanted and not name]
        assert page.locator("table:visible:not(:has(th[scope]))").count() == 0
        levels = [int(tag[1]) for tag in page.locator("h1:visible, h2:visible, h3:visible").evaluate_all(TAGS)]
        assert levels[0] == 1
        assert max(b - a for a, b in itertools.pairwise(levels)) <= 1
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        for ink in ("ink", "soft", "good", "warn", "bad", "accent"):
            for ground in ("card", "page"):
                assert page.evaluate(CONTRAST, [ink, ground]) >= 4.5, (scheme, ink, ground)  # WCAG 2.2, 1.4.3
        page.close()
