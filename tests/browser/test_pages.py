"""Pages in a real browser: they load without a word on the console, sort, filter, unfold, and can be printed."""

import io
import re

import numpy as np
import pytest

LOOKS = {
    "light": {"prefers_color_scheme": "light"},
    "dark": {"prefers_color_scheme": "dark"},
    "phone": {"prefers_color_scheme": "light", "width": 390, "height": 844},
}


def column(browser, index):
    """Return the numbers of a column of the table of layers, of the rows that are seen."""
    return browser.evaluate(f"{SEEN}.map((row) => Number(row.cells[{index}].dataset.v))")


SEEN = "[...document.querySelectorAll('#table tbody tr')].filter((row) => row.offsetParent)"
"""The rows of the table of layers that can be seen."""


def press(browser, head):
    browser.evaluate(
        f"[...document.querySelectorAll('#table thead button')].find((b) => b.textContent === '{head}').click()"
    )


def place(browser, head):
    return browser.evaluate(
        f"[...document.querySelectorAll('#table thead th')].findIndex((h) => h.textContent.trim() === '{head}')"
    )


@pytest.mark.parametrize("name", ["report", "hostile", "comparison", "diff", "large"])
def test_a_page_loads_in_silence_and_asks_for_nothing(browser, pages, name):
    browser.open(pages(name))
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file://", "data:"))] == []
    assert len([url for url in browser.requests if url.startswith("file://")]) == 1


def test_names_that_attack_are_only_shown(browser, pages):
    browser.open(pages("hostile"))
    assert browser.evaluate("document.title") != "hacked"
    assert browser.evaluate("document.scripts.length") == 1
    assert browser.evaluate("document.images.length") == 0
    assert "<script>document.title" in browser.evaluate("document.body.innerText")


def test_the_slowest_layer_stands_first_and_heads_sort(browser, pages):
    browser.open(pages("report"))
    assert column(browser, 1) == sorted(column(browser, 1), reverse=True)
    order = place(browser, "Order")
    press(browser, "Order")
    assert column(browser, order) == sorted(column(browser, order), reverse=True)
    press(browser, "Order")
    assert column(browser, order) == sorted(column(browser, order))
    assert browser.evaluate(f"document.querySelectorAll('#table thead th')[{order}].ariaSort") == "ascending"
    press(browser, "Layer")
    names = browser.evaluate("[...document.querySelectorAll('#table tbody th bdi')].map((b) => b.textContent)")
    assert len(names) > 5


@pytest.mark.parametrize("width", [1280, 1100])
def test_no_column_is_cut_off_however_long_the_name_of_a_kernel_is(browser, pages, width):
    browser.open(pages("report"), width=width)
    browser.evaluate("document.querySelector('#table .runs small').textContent = 'QLinearGlobalAveragePool'.repeat(2)")
    assert browser.evaluate("(t => t.scrollWidth <= t.clientWidth)(document.querySelector('#table').parentElement)")


def test_on_a_phone_wide_tables_say_that_they_scroll_and_charts_can_be_read(browser, pages):
    browser.open(pages("report"), width=390, height=844)
    hint = "getComputedStyle(document.querySelector('.scroll:has(#table)'), '::before').content"
    assert "Scrolls sideways" in browser.evaluate(hint)
    assert browser.evaluate("[...document.querySelectorAll('.minor')].every((cell) => !cell.offsetParent)")
    assert browser.evaluate("(t => t.scrollWidth <= t.clientWidth)(document.querySelector('.facts').parentElement)")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    browser.open(pages("comparison"), width=390, height=844)
    sizes = "[...document.querySelectorAll('.trials text')].map((t) => t.getBoundingClientRect().height)"
    assert all(size > 9 for size in browser.evaluate(sizes))
    browser.open(pages("report"), width=1280, height=900)
    assert browser.evaluate(hint) == "none"


def test_rows_are_found_by_words_and_by_what_they_run_in(browser, pages):
    browser.open(pages("report"))
    everything = len(column(browser, 1))
    find = "const f = document.getElementById('find'); f.value = %r; f.dispatchEvent(new Event('input'))"
    browser.evaluate(find % "CONV")
    found = browser.evaluate(f"{SEEN}.map((row) => row.innerText)")
    assert 0 < len(found) < everything
    assert all("conv" in text.lower() for text in found)
    assert "that fit" in browser.evaluate("document.getElementById('count').textContent")
    browser.evaluate("{" + find % "" + "}")
    browser.evaluate("document.getElementById('precision').value = 'moves'")
    browser.evaluate("document.getElementById('precision').dispatchEvent(new Event('change'))")
    kinds = browser.evaluate(f"[...new Set({SEEN}.map((row) => row.dataset.p))]")
    assert kinds == ["moves"]


def test_a_box_of_the_graph_leads_to_its_row(browser, pages):
    browser.open(pages("large"))
    assert len(column(browser, 1)) == 25
    browser.evaluate("location.hash = '#layer-2999'; new Promise((done) => setTimeout(done, 100))")
    assert browser.evaluate("document.activeElement.id") == "layer-2999"
    assert len(column(browser, 1)) == 3000


def test_blocks_unfold(browser, pages):
    browser.open(pages("large"))
    assert browser.evaluate("document.querySelectorAll('.blocks details').length") > 100
    browser.evaluate("document.querySelector('.blocks details').open = true")
    assert browser.evaluate("document.querySelector('.blocks svg').getBoundingClientRect().height") > 50


def test_the_keyboard_suffices(browser, pages):
    browser.open(pages("report"))
    browser.evaluate("document.querySelector('#table thead button').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.send(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
        )
    assert browser.evaluate("document.querySelector('#table thead th').ariaSort") == "ascending"


@pytest.mark.parametrize("name", ["report", "comparison", "diff"])
@pytest.mark.parametrize("look", LOOKS)
def test_screenshots_show_all_of_the_page(browser, pages, name, look):
    from PIL import Image

    browser.open(pages(name), **LOOKS[look])
    assert browser.evaluate("document.documentElement.scrollWidth") <= LOOKS[look].get("width", 1280)
    image = Image.open(io.BytesIO(browser.screenshot())).convert("L")
    pixels = np.asarray(image)
    assert pixels.shape[0] >= browser.evaluate("document.documentElement.scrollHeight") - 1
    background = int(np.median(pixels))
    assert (background > 200) == (look != "dark")
    end = int(browser.evaluate("document.querySelector('main').getBoundingClientRect().bottom + scrollY"))
    bands = np.array_split(pixels[:end], 5)  # something stands everywhere, down to the end
    assert all((np.abs(band.astype(int) - background) > 40).any() for band in bands)


@pytest.mark.parametrize("name", ["report", "comparison", "diff"])
def test_a_page_can_be_printed(browser, pages, name):
    browser.open(pages(name))
    data = browser.pdf()
    assert data.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", data)) < 12


def test_a_large_model_is_a_small_file_that_opens_fast(browser, pages):
    assert pages("large").stat().st_size < 5_000_000
    browser.open(pages("large"))
    metrics = {one["name"]: one["value"] for one in browser.send("Performance.getMetrics")["metrics"]}
    assert metrics["TaskDuration"] < 2.0


def test_without_scripts_all_rows_are_there(browser, pages):
    browser.open(pages("report"))
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.go(pages("report").as_uri())
    root = browser.send("DOM.getDocument", depth=0)["root"]["nodeId"]
    rows = browser.send("DOM.querySelectorAll", nodeId=root, selector="#table tbody tr")["nodeIds"]
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert len(rows) == len(column(browser, 1))
