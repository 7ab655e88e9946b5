"use strict";
// The page is whole without this script: it only hides seeds, reads values off the curves, and shows one slice at a time.
(() => {
  const make = (tag, text, name) => Object.assign(document.createElement(tag), {textContent: text, className: name || ""});
  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

  function curves(figure) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const {box, epochs, losses, panels} = data;
    const drawings = [...figure.querySelectorAll("svg.plot")];
    const slider = figure.querySelector("input[type=range]"), output = figure.querySelector("output");
    const isShown = run => figure.querySelector(`input[data-run="${run.number}"]`).checked;
    const x = at => box.left + box.width * at / Math.max(1, epochs.length - 1);
    const y = (panel, value) =>
      box.top + box.height * (1 - (value - panel.span[0]) / (panel.span[1] - panel.span[0]));

    // The seeds of a loss that are averaged: the finished ones that are shown
    const averaged = loss => loss.runs.filter(run => run.finished && isShown(run));

    // [lowest, mean, highest] at each epoch; null where a seed has no value
    function spread(panel, runs) {
      return epochs.map((_, at) => {
        const values = runs.map(run => panel.values[run.number][at]);
        return values.length && values.every(value => value !== null) ?
          [Math.min(...values), mean(values), Math.max(...values)] : null;
      });
    }

    // Paths of the mean and of the band between lowest and highest, with gaps where there is nothing
    function paths(panel, spreads) {
      const parts = [];
      spreads.forEach((three, at) => {
        if (three === null) return;
        if (at === 0 || spreads[at - 1] === null) parts.push([]);
        parts.at(-1).push([x(at), ...three.map(value => y(panel, value))].map(value => value.toFixed(1)));
      });
      const joined = points => points.map(point => point.join(" ")).join("L");
      return [
        parts.map(part => "M" + joined(part.map(([px, , middle]) => [px, middle])) + (part.length > 1 ? "" : "h.1")).join(""),
        parts.map(part => "M" + joined(part.map(([px, , , high]) => [px, high])
          .concat(part.map(([px, low]) => [px, low]).reverse())) + "Z").join("")];
    }

    function drawSeeds() {
      for (const run of losses.flatMap(loss => loss.runs))
        for (const line of figure.querySelectorAll(`.plot [data-run="${run.number}"]`))
          line.classList.toggle("off", !isShown(run));
      panels.forEach((panel, number) => losses.forEach((loss, k) => {
        const [middle, range] = paths(panel, spread(panel, averaged(loss)));
        drawings[number].querySelectorAll(".mean")[k].setAttribute("d", middle);
        drawings[number].querySelectorAll(".band")[k].setAttribute("d", range);
      }));
      readOff();
    }

    // Values at the slider's epoch: means of the seeds shown, of the unfinished ones where no other is
    function readOff() {
      const at = Number(slider.value), spoken = [];
      output.textContent = epochs[at];
      panels.forEach((panel, number) => {
        const readout = drawings[number].parentNode.querySelector(".readout"), words = [];
        readout.replaceChildren(make("span", `epoch ${epochs[at]}`));
        drawings[number].querySelector(".cursor").setAttribute("d", `M${x(at).toFixed(1)} ${box.top}v${box.height}`);
        for (const loss of losses) {
          const runs = averaged(loss).length ? averaged(loss) : loss.runs.filter(isShown);
          const values = runs.map(run => panel.values[run.number][at]).filter(value => value !== null);
          if (!values.length) continue;
          const text = `${loss.text} ${Number(mean(values).toFixed(panel.digits))}` +
            (values.length < runs.length ? ` (${values.length} of ${runs.length} seeds)` : "");
          words.push(text);
          readout.append(make("span", text, `k${loss.style}`));
        }
        const title = drawings[number].parentNode.querySelector("h4").textContent;
        if (number < 2) spoken.push(`${title}: ${words.join(", ") || "no value"}`);
      });
      slider.setAttribute("aria-valuetext", `epoch ${epochs[at]}. ${spoken.join(". ")}`);
    }

    const point = () => {
      figure.classList.add("read");
      readOff();
    };
    for (const drawing of drawings) {
      const follow = event => {
        const place = drawing.getBoundingClientRect();
        const part = ((event.clientX - place.left) / place.width * drawing.viewBox.baseVal.width - box.left) / box.width;
        slider.value = Math.round(Math.min(1, Math.max(0, part)) * (epochs.length - 1));
        point();
      };
      drawing.addEventListener("pointermove", follow);
      drawing.addEventListener("pointerdown", follow);
    }
    slider.addEventListener("input", point);
    figure.addEventListener("change", event => event.target.dataset.run !== undefined && drawSeeds());
    drawSeeds();
  }

  function browser(figure) {
    const scans = [...figure.querySelectorAll(".store details")];
    const control = name => figure.querySelector(`[name="${name}"]`);
    const slider = figure.querySelector("input[type=range]"), stage = figure.querySelector(".stage");
    const select = control("scan"), closeUp = control("close-up");
    const chosen = name => control(name) ? control(name).value : "0";
    const slices = () => scans[select.value].querySelectorAll(".slice");

    // A copy of a slice with the chosen seed's contours and the chosen modality alone
    function copyOf(slice) {
      const copy = slice.cloneNode(true);
      const modality = slice.querySelector(`[data-modality="${chosen("modality")}"]`) ? chosen("modality") : "0";
      for (const part of copy.querySelectorAll("[data-seed]"))
        part.dataset.seed === chosen("seed") ? delete part.dataset.seed : part.remove();
      for (const part of copy.querySelectorAll("[data-modality]"))
        part.dataset.modality === modality ? delete part.dataset.modality : part.remove();
      if (modality !== chosen("modality")) copy.querySelector("figcaption").append("; this modality was left out for lack of room");
      return copy;
    }

    function showSlice() {
      const slice = slices()[slider.value], copy = copyOf(slice), drawing = copy.querySelector("svg");
      if (closeUp.checked && slice.dataset.closeUp) drawing.setAttribute("viewBox", slice.dataset.closeUp);
      stage.replaceChildren(drawing);
      const number = `slice ${slice.dataset.index}`, place = `${Number(slider.value) + 1} of ${slices().length} shown`;
      figure.querySelector(".slice-facts").textContent = `${copy.querySelector("figcaption").textContent} (${place})`;
      figure.querySelector(".steps output").textContent = number;
      slider.setAttribute("aria-valuetext", number);
      control("previous").disabled = Number(slider.value) === 0;
      control("next").disabled = slider.value === slider.max;
    }

    function showScan() {
      slider.max = slices().length - 1;
      slider.disabled = slices().length < 2;
      slider.value = scans[select.value].dataset.open;
      figure.querySelector(".scan-facts").textContent = scans[select.value].querySelector("summary").textContent;
      showSlice();
    }

    // So many slices on; is there one?
    function step(by) {
      const at = Number(slider.value) + by;
      if (at < 0 || at > Number(slider.max)) return false;
      slider.value = at;
      showSlice();
      return true;
    }

    select.addEventListener("change", showScan);
    for (const name of ["seed", "modality"]) control(name)?.addEventListener("change", showSlice);
    slider.addEventListener("input", showSlice);
    closeUp.addEventListener("change", showSlice);
    control("previous").addEventListener("click", () => step(-1));
    control("next").addEventListener("click", () => step(1));
    stage.addEventListener("wheel", event => {  // at the first and the last slice the page scrolls on
      if (!event.ctrlKey && event.deltaY && step(Math.sign(event.deltaY))) event.preventDefault();
    }, {passive: false});
    showScan();
    return id => {  // a link to one of the scans
      const at = scans.findIndex(scan => scan.id === id);
      if (at < 0) return false;
      select.value = at;
      showScan();
      figure.scrollIntoView();
      select.focus({preventScroll: true});
      return true;
    };
  }

  document.documentElement.classList.add("js");
  document.querySelectorAll("figure.curves").forEach(curves);
  const open = [...document.querySelectorAll("figure.browser")].map(browser);
  const follow = id => open.some(one => one(id));
  document.addEventListener("click", event => {
    const link = event.target.closest("a[href^='#scan-']");
    if (link && follow(link.getAttribute("href").slice(1))) event.preventDefault();
  });
  follow(location.hash.slice(1));
  addEventListener("beforeprint", () => {  // settings and versions belong on paper too
    for (const details of document.querySelectorAll("details")) details.open ||= !details.closest(".store");
  });
})();
