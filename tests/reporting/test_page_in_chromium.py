"""The page in a real headless Chromium: nothing fails or leaves the machine, every control works.

Skipped where no Chromium or Chrome is installed.
"""

import base64
import json

import numpy as np
import pytest

import chromium
import report
from run_folders import DSC, page_of, square, write_data, write_run, write_set

pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason=f"needs one of {', '.join(chromium.PLACES)} on the PATH")
SIZES = {"desktop": {"width": 1280}, "phone": {"width": 390, "height": 844},
         "dark": {"width": 1200, "prefers_color_scheme": "dark"},
         "without script": {"width": 1200, "script": False}}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of two sets: one with all that a page can show, and one with an unfinished run."""
    root = tmp_path_factory.mktemp("chromium")

    # a set with curves, scans and claims
    none = np.zeros((24, 24), bool)
    scans = {"a": [square(4, 4, side) for side in (2, 6, 4)],
             "b": [square(8, 8, 8), none, square(8, 8, 6)]}
    data = write_data(root / "data" / "wmh", scans=scans)
    for loss, seeds in DSC.items():
        for seed, dsc in enumerate(seeds):
            write_run(root / "results" / "wmh" / loss / f"seed{seed}", data, loss, seed, dsc)
    masks = {name: np.roll(np.stack(slices).astype(np.uint8), 3, axis=1)
             for name, slices in scans.items()}
    np.savez_compressed(root / "results" / "wmh" / "gdl" / "seed1" / "predictions.npz", **masks)
    verdicts = ("supported", "refuted", "not measured")
    claims = {f"C{at}": {"claim": f"claim {at}", "verdict": verdict, "statistic": "+0.1 [0.0, 0.2]"}
              for at, verdict in enumerate(verdicts, 1)}
    (root / "results" / "wmh" / "claims.json").write_text(json.dumps({"claims": claims}))

    # a set with a long name and a run that goes on
    own = write_data(root / "data" / "own", source="own",
                     name="a name that is long and has no end " * 3)
    write_run(root / "results" / "own" / "gdl" / "seed0", own, "gdl", 0, [0.2, 0.3], finished=False)

    folder = root / "results"
    places = [str(folder / "wmh"), str(folder / "own")]
    assert report.main(["--runs", *places, "--out", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = chromium.Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, page):
    """The page at desktop size; at the end, nothing has failed."""
    browser.open(page)
    yield browser
    assert browser.value("1") == 1 and browser.faults == []


def element(selector):
    """JavaScript for the first element of a selector."""
    return f"document.querySelector({json.dumps(selector)})"


def text(browser, selector):
    return browser.value(f"{element(selector)}.textContent")


def attribute(browser, selector, name):
    return browser.value(f"{element(selector)}.getAttribute({json.dumps(name)})")


def is_shown(browser, selector):
    return browser.value(f"{element(selector)}.checkVisibility()")


def focus(browser, selector):
    browser.value(f"{element(selector)}.focus()")


def sticks_out(browser, width):
    """The elements beyond this width; a phone's innerWidth would grow with them."""
    return browser.value(f"""[...document.querySelectorAll("body *")]
        .filter(element => !element.closest(".scroll, pre, svg, .skip, .unseen")
                           && element.getBoundingClientRect().right > {width + 1})
        .map(element => `${{element.tagName}} ${{element.className}}`)""")


def points(path):
    """The corners of a polyline's path."""
    corners = path.removeprefix("M").split("L")
    return [[float(value) for value in corner.split()] for corner in corners]


@pytest.mark.parametrize("name", SIZES)
def test_nothing_fails_is_fetched_or_sticks_out(browser, page, name):
    browser.open(page, **SIZES[name])
    here = ("data:", page.as_uri())
    outside = [url for url in browser.requests if not url.startswith(here)]
    assert (browser.faults, outside) == ([], [])
    width = SIZES[name]["width"]
    assert sticks_out(browser, width) == []
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_every_picture_is_decoded(opened):
    assert opened.value("[...document.images].every(image => image.naturalWidth > 100)")
    assert sum(url.startswith("data:image/") for url in opened.requests) >= 6


def test_the_slider_moves_through_the_slices_by_keys(opened):
    slider, facts = "#browser-0 input[type=range]", "#browser-0 .slice-facts"
    assert text(opened, facts) == \
        "Slice 1: 36 px of lesion; GDL DSC 0.67; GDL + boundary DSC 0.83 (2 of 3 shown)"
    before = attribute(opened, "#browser-0 .stage image", "href")

    focus(opened, slider)
    opened.press("ArrowRight")
    assert text(opened, facts).startswith("Slice 2: 16 px of lesion; GDL DSC 0.50")
    assert attribute(opened, slider, "aria-valuetext") == "slice 2"
    assert attribute(opened, "#browser-0 .stage image", "href") != before

    opened.press("ArrowRight", times=3)  # the end
    assert text(opened, facts).startswith("Slice 2")
    opened.press("Home")
    assert text(opened, facts).startswith("Slice 0: 4 px of lesion")


def test_previous_and_next_go_slice_by_slice_and_end_at_the_ends(opened):
    number, previous, forward = (f"#browser-0 {part}" for part in (
        ".steps output", "[name=previous]", "[name=next]"))
    assert text(opened, number) == "slice 1"
    opened.click(forward)
    assert text(opened, number) == "slice 2" and opened.value(f"{element(forward)}.disabled")
    opened.click(previous)
    opened.press(" ")
    assert text(opened, number) == "slice 0" and opened.value(f"{element(previous)}.disabled")


def test_the_wheel_goes_through_the_slices_and_then_scrolls_the_page(opened):
    def wheel(by):
        left, top = opened.place("#browser-0 .stage")
        opened.ask("Input.dispatchMouseEvent", type="mouseWheel", x=left, y=top, deltaX=0,
                   deltaY=by)
        return text(opened, "#browser-0 .steps output")

    before = opened.value("scrollY")
    assert [wheel(100), wheel(-100), wheel(-100)] == ["slice 2", "slice 1", "slice 0"]
    at = opened.value("(document.querySelector('#browser-0 .stage').scrollIntoView("
                      "{block: 'center'}), scrollY)")
    assert wheel(-100) == "slice 0" and before >= 0
    opened.value("new Promise(done => setTimeout(done, 300))")
    assert opened.value("scrollY") <= at


def test_another_seed_and_modality_are_shown(opened):
    picture, contour = "#browser-0 .stage image", "#browser-0 .stage .gdl"
    assert opened.value("document.querySelectorAll('#browser-0 .stage image').length") == 1
    image, path = attribute(opened, picture, "href"), attribute(opened, contour, "d")

    focus(opened, "#browser-0 [name=modality]")
    opened.press("ArrowDown")
    assert attribute(opened, picture, "href") != image
    assert is_shown(opened, picture) and attribute(opened, contour, "d") == path

    focus(opened, "#browser-0 [name=seed]")
    opened.press("ArrowDown")
    assert attribute(opened, contour, "d") != path and is_shown(opened, contour)
    assert "GDL DSC 0.50" in text(opened, "#browser-0 .slice-facts")  # seed1: 6x6, moved by 3


@pytest.mark.parametrize("script", [True, False])
def test_left_and_right_stand_on_every_image(browser, page, script):
    browser.open(page, script=script)
    sides = browser.value("""[...document.querySelectorAll(".sides")].filter(
        part => part.checkVisibility()).map(part => ["::before", "::after"].map(
        side => getComputedStyle(part, side).content).join())""")
    assert sides and set(sides) == {'"L","R"'}


def test_the_first_screen_answers(browser, tmp_path):
    """At 1280x900 the sentence, the table and the first claims are there without scrolling."""
    folder = write_set(tmp_path, source="challenge")
    claim = {"claim": "c", "verdict": "supported", "statistic": "s"}
    (folder / "claims.json").write_text(json.dumps({"claims": {"C1": claim}}))
    (tmp_path / "report.html").write_text(page_of(folder))
    browser.open(tmp_path / "report.html", width=1280)
    tops = [browser.value(f"{element(place)}.getBoundingClientRect().top")
            for place in (".lead", "#table table", ".claims li")]
    assert tops == sorted(tops) and tops[-1] < 900

    wider = browser.value("""[...document.querySelectorAll("#table .scroll, #summary .scroll")]
        .filter(part => part.checkVisibility()).map(part => part.scrollWidth - part.clientWidth)""")
    assert max(wider) <= 1


def test_a_claim_folds_out_by_keys(opened):
    place = ".claims li"
    assert not is_shown(opened, f"{place} .statistic") and is_shown(opened, f"{place} .one")
    focus(opened, f"{place} summary")
    opened.press("Enter")
    assert is_shown(opened, f"{place} .statistic")


def test_the_slider_moves_by_mouse(opened):
    opened.move("#browser-0 input[type=range]", 0.01)
    left, top = opened.place("#browser-0 input[type=range]", 0.01)
    for kind in ("mousePressed", "mouseReleased"):
        opened.ask("Input.dispatchMouseEvent", type=kind, x=left, y=top, button="left",
                   clickCount=1)
    assert text(opened, "#browser-0 .slice-facts").startswith("Slice 0")


def test_a_close_up_frames_the_lesion_and_goes_again(opened):
    picture = "#browser-0 .stage svg"
    assert attribute(opened, picture, "viewBox") == "0 0 24.0 24.0"
    opened.click("#browser-0 input[name=close-up]")
    # 6 x 6 pixels of 1 mm, upright from (4, 14) to (10, 20)
    assert attribute(opened, picture, "viewBox") == "-17.0 -7.0 48.0 48.0"
    opened.press(" ")
    assert attribute(opened, picture, "viewBox") == "0 0 24.0 24.0"


def test_another_scan_is_chosen_by_keys(opened):
    scan, shown = "#browser-0 .scan-facts", "#browser-0 .slice-facts"
    assert text(opened, scan).startswith("a: 0.17 ml")  # the worst: 4 + 36 + 16 px of 3 mm³
    focus(opened, "#browser-0 select")
    opened.press("ArrowDown")
    assert text(opened, scan).startswith("b: 0.30 ml")
    assert text(opened, shown).startswith("Slice 0: 64 px")
    focus(opened, "#browser-0 input[type=range]")
    opened.press("ArrowRight")
    assert text(opened, shown).startswith("Slice 2: 36 px")  # 1 is empty everywhere


@pytest.mark.parametrize("name", ["truth", "gdl", "both"])
@pytest.mark.parametrize("script", [True, False])
def test_contours_are_toggled_by_mouse_and_space(browser, page, name, script):
    browser.open(page, script=script)
    place = "#browser-0 .stage" if script else "#browser-0 details[open]"

    def shown():
        return {kind for kind in ("truth", "gdl", "both")
                if is_shown(browser, f"{place} path.{kind}")}

    assert shown() == {"truth", "gdl", "both"}
    browser.click(f"#browser-0 input[name={name}]")
    assert shown() == {"truth", "gdl", "both"} - {name}
    browser.press(" ")
    assert is_shown(browser, f"{place} path.{name}") and browser.faults == []


def test_a_hidden_seed_leaves_the_curves_and_their_mean(opened):
    def mean():
        return opened.value("document.querySelectorAll('#curves-0 .plot')[0]"
                            ".querySelectorAll('.mean')[2].getAttribute('d')")

    drawn = mean()
    opened.click("#curves-0 input[data-run='5']")  # the second seed of GDL + boundary
    assert not is_shown(opened, "#curves-0 .plot [data-run='5']")
    assert is_shown(opened, "#curves-0 .plot [data-run='4']")
    seed = attribute(opened, "#curves-0 .plot path[data-run='4']", "d")
    assert mean() != drawn and np.allclose(points(mean()), points(seed), atol=0.11)

    opened.press(" ")
    assert np.allclose(points(mean()), points(drawn), atol=0.11)

    for run in (4, 5):
        opened.click(f"#curves-0 input[data-run='{run}']")
    assert mean() == ""


def test_pointing_at_a_curve_reads_an_epoch_off(opened):
    opened.move("#curves-0 .plot", (46 + 320 * 4 / 7) / 380)  # the fifth of eight epochs
    assert text(opened, "#curves-0 output") == "5"
    assert text(opened, "#curves-0 .readout") == \
        "epoch 5boundary alone 0.125GDL 0.125GDL + boundary 0.2"  # DSC on lesion slices
    assert is_shown(opened, "#curves-0 .cursor")


def test_the_slider_of_epochs_speaks_its_values(opened):
    slider = "#curves-0 input[type=range]"
    focus(opened, slider)
    opened.press("ArrowLeft")
    assert attribute(opened, slider, "aria-valuetext").startswith(
        "epoch 7. DSC, lesion slices: boundary alone 0.125, GDL 0.075, GDL + boundary 0.175. 3-D")


def test_values_of_some_seeds_only_are_called_so(opened):
    focus(opened, "#curves-1 input[type=range]")
    opened.press("Home")
    # the unfinished run, where there is no other
    assert text(opened, "#curves-1 .readout") == "epoch 1GDL 0.05"
    assert attribute(opened, "#curves-1 .unfinished", "d").startswith("M46 ")


def test_a_point_of_the_scatter_plot_leads_to_its_scan_by_keys(opened):
    point = "document.querySelectorAll('#scans .scatter a')[1]"
    assert opened.value(f"{point}.getAttribute('aria-label')").startswith("b: 3-D DSC")
    opened.value(f"{point}.focus()")
    opened.press("Enter")
    assert opened.value(f"{element('#browser-0 select')}.value") == "1"
    assert text(opened, "#browser-0 .scan-facts").startswith("b:")
    assert opened.value("document.activeElement.tagName") == "SELECT"


def test_without_script_all_scans_slices_and_curves_are_there(browser, page):
    browser.open(page, script=False)
    assert browser.value("[...document.querySelectorAll('.needs-script')]"
                         ".every(control => !control.checkVisibility())")
    assert is_shown(browser, "#scan-0-0 .slice image")
    assert not is_shown(browser, "#scan-0-1 .slice image")
    browser.click("#scan-0-1 summary")
    assert is_shown(browser, "#scan-0-1 .slice image") and is_shown(browser, "#curves-0 .mean")


def test_every_control_is_reached_by_tab_and_has_a_name(opened):
    nameless = opened.value("""[...document.querySelectorAll("input, select, button, summary, a")]
        .filter(control => !(control.getAttribute("aria-label") || control.textContent.trim()
                             || control.closest("label")?.textContent.trim())).length""")
    assert nameless == 0
    focus(opened, "#browser-0 select")
    names = []
    for _ in range(9):
        opened.press("Tab")
        names.append(opened.value("document.activeElement.name || document.activeElement.type"))
    assert names == ["seed", "modality", "truth", "gdl", "both", "close-up", "previous", "range",
                     "next"]


def test_a_script_that_got_into_the_page_would_not_run(browser, page):
    browser.open(page)
    assert browser.value("""(() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        return window.ran === undefined;
    })()""")


def test_printing_leaves_the_controls_out_and_fits_the_paper(browser, page):
    browser.open(page, width=680)  # A4 without its margins
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert not is_shown(browser, "nav") and not is_shown(browser, "#browser-0 select")
    assert is_shown(browser, ".stage image")
    assert sticks_out(browser, 680) == []

    # what cannot be broken takes less than half a page, of 26.9 cm: none is left half empty
    tall = browser.value("""[...document.querySelectorAll("main *")].filter(part =>
        part.checkVisibility() && part.getBoundingClientRect().height > 26.9 / 2.54 * 96 / 2
        && (getComputedStyle(part).breakInside === "avoid" || part.matches("img, svg")))
        .map(part => part.tagName + "." + part.className)""")
    assert tall == []

    pdf = base64.b64decode(browser.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF") and browser.faults == []
    # settings are on paper
    assert browser.value("[...document.querySelectorAll('#runs details')].every(part => part.open)")
