// Show why a match has its probability and its score: its evidence, a heat map over both images, and the points of each part. Key E, or the button.
const explanation = document.getElementById("explanation");
const slot = (name) => explanation.querySelector(`[data-slot="${name}"]`);
let explained = 0; // counts the openings, so that a late answer does not replace a newer one

// Draw the map on a small canvas, which the browser scales up smoothly over the covered part of the image.
function createHeatMap({ rows, columns, area, values }) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [columns, rows];
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    values.forEach((value, cell) => pixels.data.set([255, Math.round(255 * (1 - 0.6 * value)), 40, Math.round(215 * value)], 4 * cell));
    context.putImageData(pixels, 0, 0);
    const [left, top, width, height] = area.map((share) => `${100 * share}%`);
    Object.assign(canvas.style, { left, top, width, height });
    return canvas;
}

function createFigure(url, heatMap) {
    const figure = document.createElement("div");
    figure.className = "cm-heat";
    const image = document.createElement("img");
    image.src = url;
    image.alt = "";
    figure.append(image, ...(heatMap ? [createHeatMap(heatMap)] : []));
    return figure;
}

function createPart({ name, model_name: model, points }) {
    const row = document.createElement("tr");
    const label = explanation.dataset[name];
    const cells = [label ? (name === "floor" ? label : `${label} (${model})`) : model, points.toFixed(1)];
    row.append(...cells.map((text, index) => {
        const cell = document.createElement(index ? "td" : "th");
        if (!index) cell.scope = "row";
        cell.textContent = text;
        return cell;
    }));
    return row;
}

function showExplanation(data) {
    slot("score").textContent = data.score.toFixed(1);
    slot("status").textContent = data.no_heat_maps && explanation.dataset.noMaps;
    slot("images").replaceChildren(
        createFigure(data.image_url, data.heat_maps[0]), createFigure(data.candidate_image_url, data.heat_maps[1]),
    );
    slot("legend").hidden = !data.heat_maps.length;
    slot("parts").hidden = false;
    slot("parts").tBodies[0].replaceChildren(...data.parts.map(createPart));
}

async function explain(url, why) {
    explained += 1;
    const own = explained;
    slot("score").textContent = "";
    slot("status").textContent = slot("status").dataset.waiting;
    slot("why").replaceChildren(...(why ? [why.content.cloneNode(true)] : []));
    slot("images").replaceChildren();
    slot("legend").hidden = slot("parts").hidden = true;
    explanation.showModal();
    try {
        const response = await fetch(url, { headers: { Accept: "application/json" } });
        const data = await response.json();
        if (own !== explained) return;
        if (response.ok) showExplanation(data);
        else slot("status").textContent = data.detail ?? explanation.dataset.failed;
    } catch {
        if (own === explained) slot("status").textContent = explanation.dataset.failed;
    }
}

document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-explain]");
    if (button) explain(button.dataset.explain, button.closest(".cm-candidate")?.querySelector("[data-why]"));
    else if (event.target === explanation) explanation.close(); // beside the dialog
});
// Before the page's own keys, which must not judge a case behind the dialog.
document.addEventListener("keydown", (event) => {
    if (explanation.open) {
        event.stopImmediatePropagation();
        if (event.key.toLowerCase() === "e" && !event.target.closest("select")) explanation.close();
    } else if (event.key.toLowerCase() === "e" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input:not([type=radio]), select, textarea")) {
        document.querySelector(".cm-candidate:not([hidden]) [data-explain]")?.click();
    }
}, true);
