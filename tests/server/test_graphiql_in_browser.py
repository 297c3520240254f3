"""GraphiQL as a person uses it, in a headless Chromium: every test also fails on a console error or a foreign request.

SCREENSHOT_TO=<file>.png keeps a picture of the event test's last moment.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from taskgraph.server import page
from tests.conftest import Server, Someone

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
)
CREATE = "mutation ($title: String!) { createTask(input: {title: $title}) { errors { message } } }"
# The first visit unpacks 6 MB of script and starts four workers, on a machine that runs the other tests at the same time.
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium for the browser tests; on Debian and Ubuntu: apt install chromium")
    if not page.is_built():
        pytest.skip(page.NOT_BUILT)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield opened
        opened.close()


@contextmanager
def graphiql(browser: Browser, server: Server, fragment: str = "") -> Iterator[Page]:
    """The page, ready to type into; on leaving, nothing may have gone wrong or elsewhere."""
    problems: list[str] = []
    addresses: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            problems.append(message.text)

    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.on("console", note)
    context.on("weberror", lambda error: problems.append(str(error.error)))
    context.on("request", lambda request: addresses.append(request.url))
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.on("websocket", lambda socket: addresses.append(socket.url))
    tab.goto(f"{server.url}/graphql{fragment}")
    expect(tab).to_have_title("taskgraph · GraphiQL")
    expect(tab.get_by_label("Operation Editor")).to_contain_text("query Tasks")
    yield tab
    context.close()
    assert problems == []
    assert [address for address in addresses if not is_own(address, server)] == []


def is_own(address: str, server: Server) -> bool:
    """A data: address is a part of the file that holds it and causes no request."""
    asked = urlsplit(address)
    return asked.scheme == "data" or (asked.scheme in {"http", "ws"} and asked.netloc == urlsplit(server.url).netloc)


def headers(tab: Page) -> Locator:
    """The Variables editor is hidden in the same place."""
    return tab.locator('[aria-label="Headers"] .monaco-editor:visible')


def sign_in(tab: Page, authorization: str) -> None:
    headers(tab).click()
    tab.keyboard.press("ControlOrMeta+A")
    tab.keyboard.press("Delete")
    tab.keyboard.insert_text(json.dumps({"Authorization": authorization}))
    expect(headers(tab)).to_contain_text(authorization[-20:])


def run(tab: Page, name: str) -> Locator:
    """Runs the operation of one of the example tabs; what the server answers appears in the place returned."""
    chosen = tab.get_by_role("tab", name=name)
    if chosen.get_attribute("aria-selected") != "true":
        chosen.get_by_role("button", name=name).click()
    expect(tab.get_by_label("Operation Editor")).to_contain_text(name)
    tab.get_by_role("button", name="Execute query").click()
    return tab.get_by_label("Result Window")


def test_a_person_signed_in_through_the_headers_reads_and_writes_in_graphiql(
    browser: Browser, server: Server, someone: Someone
) -> None:
    """The headers are typed once, in the first tab, and hold for the others."""
    account = someone()
    with graphiql(browser, server) as tab:
        sign_in(tab, f"Bearer {account.token}")
        expect(run(tab, "Tasks")).to_contain_text('"totalCount": 0')
        created = run(tab, "CreateTask")
        expect(created).to_contain_text('"title": "Try GraphiQL"')
        expect(created).to_contain_text('"errors": []')
        expect(run(tab, "Tasks")).to_contain_text('"totalCount": 1')
    stored = account.ask("{ tasks { nodes { title } } }")
    assert stored["data"] == {"tasks": {"nodes": [{"title": "Try GraphiQL"}]}}


def test_a_signed_in_person_sees_an_event_appear_in_graphiql(browser: Browser, server: Server, someone: Someone) -> None:
    account = someone()
    with graphiql(browser, server) as tab:
        sign_in(tab, f"Bearer {account.token}")
        events = run(tab, "TaskEvents")
        expect(events).to_contain_text('"__typename": "StreamCheckpoint"')
        account.ask(CREATE, {"title": "Written elsewhere"})
        expect(events).to_contain_text('"action": "CREATED"')
        expect(events).to_contain_text('"title": "Written elsewhere"')
        if "SCREENSHOT_TO" in os.environ:
            tab.screenshot(path=os.environ["SCREENSHOT_TO"])


def test_a_changed_token_holds_for_the_next_subscription(browser: Browser, server: Server, someone: Someone) -> None:
    first, second = someone(), someone()
    with graphiql(browser, server) as tab:
        sign_in(tab, f"Bearer {first.token}")
        expect(run(tab, "TaskEvents")).to_contain_text('"__typename": "StreamCheckpoint"')
        tab.get_by_role("button", name="Stop query").click()
        sign_in(tab, f"Bearer {second.token}")
        events = run(tab, "TaskEvents")
        expect(events).to_contain_text('"__typename": "StreamCheckpoint"')
        first.ask(CREATE, {"title": "Of the first"})
        second.ask(CREATE, {"title": "Of the second"})
        expect(events).to_contain_text('"title": "Of the second"')


def test_a_refused_subscription_says_why(browser: Browser, server: Server) -> None:
    with graphiql(browser, server) as tab:
        sign_in(tab, "Bearer not-a-token-of-this-server")
        expect(run(tab, "TaskEvents")).to_contain_text("close code 4403")


def test_a_link_with_a_token_signs_in_and_the_browser_keeps_no_copy(browser: Browser, server: Server, someone: Someone) -> None:
    account = someone()
    assert account.token is not None
    with graphiql(browser, server, fragment=f"#token={account.token}") as tab:
        assert tab.url == f"{server.url}/graphql"
        expect(run(tab, "Tasks")).to_contain_text('"totalCount": 0')
        # GraphiQL stores its tabs half a second after the last change.
        tab.wait_for_function("localStorage.getItem('graphiql:tabState')?.includes('query Tasks')")
        assert account.token not in tab.evaluate("JSON.stringify([localStorage, sessionStorage])")
        other = someone()
        tab.goto(f"{server.url}/graphql#token={other.token}")
        expect(headers(tab)).to_contain_text(f"{other.token}")
        expect(tab).to_have_url(f"{server.url}/graphql")
