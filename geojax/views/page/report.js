"use strict";
// The globe and the panel of the chosen patch. Traces in the order of globe().
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const REGIONS = [1, 2, 3], PATH = 4, DOTS = 5, PREDICTED = 6, TRUE = 7;
  const globe = document.getElementById("globe");
  const choose = document.getElementById("choose");
  const put = (id, text) => { document.getElementById(id).textContent = text; };
  let chosen = -1;

  function cellsOf(patch) {
    const bytes = Uint8Array.from(atob(patch.cells), (c) => c.charCodeAt(0));
    return new Uint16Array(bytes.buffer);
  }

  function drawRegions(patch) {
    const cells = cellsOf(patch);
    const [inner, middle] = patch.counts;
    // In the order of the traces: the densest region is drawn last, on top.
    const parts = [
      cells.subarray(middle), cells.subarray(inner, middle),
      cells.subarray(0, inner),
    ];
    const pick = (values, part) => Array.from(part, (cell) => values[cell]);
    Plotly.restyle(globe, {
      lat: parts.map((part) => pick(data.cells.lat, part)),
      lon: parts.map((part) => pick(data.cells.lon, part)),
      // The width of a cell in the middle of the globe.
      "marker.size": globe.clientHeight / 56,
    }, REGIONS);
    Plotly.restyle(globe, {
      lat: [[patch.lat, patch.lat_predicted], [patch.lat_predicted], [patch.lat]],
      lon: [[patch.lon, patch.lon_predicted], [patch.lon_predicted], [patch.lon]],
    }, [PATH, PREDICTED, TRUE]);
  }

  function show(index, turn) {
    chosen = (index + data.patches.length) % data.patches.length;
    const patch = data.patches[chosen];
    choose.value = String(chosen);
    put("patch-title", `Patch ${patch.record}: ${patch.km} km error`);
    const image = document.getElementById("patch-image");
    image.src = patch.image;
    image.alt = `Satellite patch at ${patch.text["place-true"]}, ${patch.text["date-true"]}`;
    image.hidden = false;
    document.getElementById("patch-table").hidden = false;
    for (const [id, text] of Object.entries(patch.text)) put(id, text);
    if (patch.cells) drawRegions(patch);
    if (turn) {
      Plotly.relayout(globe, { "geo.projection.rotation": {
        lat: patch.lat, lon: patch.lon, roll: 0,
      } });
    }
  }

  function project(type) {
    Plotly.relayout(globe, {
      "geo.projection.type": type, "geo.projection.scale": 1,
      "geo.center": { lat: 0, lon: 0 },
      "geo.projection.rotation": { lat: 0, lon: 0, roll: 0 },
    });
    for (const [id, own] of [["as-globe", "orthographic"], ["as-map", "robinson"]]) {
      document.getElementById(id).setAttribute("aria-pressed", String(own === type));
    }
  }

  const isGlobe = () => (
    document.getElementById("as-globe").getAttribute("aria-pressed") === "true"
  );
  data.patches.forEach((patch, index) => {
    choose.add(new Option(patch.option, String(index)));
  });
  choose.value = "";
  choose.addEventListener("change", () => show(Number(choose.value), isGlobe()));
  const actions = {
    next: () => show(chosen + 1, isGlobe()),
    previous: () => show(chosen < 0 ? -1 : chosen - 1, isGlobe()),
    "as-globe": () => project("orthographic"),
    "as-map": () => project("robinson"),
  };
  for (const [id, action] of Object.entries(actions)) {
    document.getElementById(id).addEventListener("click", action);
  }
  Plotly.newPlot(globe, data.figure.data, data.figure.layout, {
    responsive: true, displayModeBar: false, scrollZoom: false,
  }).then(() => {
    globe.on("plotly_click", (event) => {
      const point = event.points.find((p) => p.curveNumber === DOTS);
      if (point) show(point.pointIndex, false);
    });
    document.body.dataset.ready = "true";
  });
})();
