// Review case after case without loading a page. The next case and its images are loaded before the decision.
// Each button names its key in data-key. The dialog in the template explains all keys.
const review = document.getElementById("review");
const { dataset } = review;
const said = document.getElementById("said");
const RENEW_MS = 3 * 60 * 1000; // well before the lease on a case expires
const FLICKER_MS = 500;
const SWIPE_PIXELS = 40;
let shownCase = document.getElementById("case");
let nextCase = null; // a promise of the next case's element, or of null if there is none
let nextProduct = null; // the product of the next case, or null until it is known
let isBusy = false; // a decision or a change of case is under way
let isUndoQueued = false; // the user pressed U during that
let refused = null; // the fields of a decision that another reviewer was faster than
let flickerTimer = null;
const decided = []; // the products decided on in this visit, the latest last

const candidates = () => [...shownCase.querySelectorAll(".cm-candidate")];
const picks = () => [...shownCase.querySelectorAll(".cm-picks input")];
const chosenIndex = () => Math.max(picks().findIndex((pick) => pick.checked), 0);
const findButton = (key) => shownCase.querySelector(`[data-key="${CSS.escape(key)}"]`);
const isShown = (element) => element && !element.hidden;

function showMessage(text) {
    showAlert(shownCase.querySelector(".cm-case-head"), text);
}

// Say a text to screen readers and show it above the case.
function say(text, link = null) {
    said.textContent = text;
    if (!link) return;
    const anchor = document.createElement("a");
    anchor.href = link.url;
    anchor.textContent = link.name;
    anchor.className = "cm-link";
    said.append(" ", anchor);
}

function setIdle() {
    isBusy = false;
    if (!isUndoQueued) return;
    isUndoQueued = false;
    undo();
}

async function post(url, fields, accept = "*/*") {
    const body = new URLSearchParams(fields);
    const response = await fetch(url, { method: "POST", body, headers: { "X-CSRFToken": csrfToken(), Accept: accept } });
    if (new URL(response.url).pathname.endsWith("/login/")) {
        signInAgain(response.url);
        throw new Error("signed out");
    }
    return response;
}

// Return the case in a response. Its images load although it is not in the page yet.
async function parseCase(response) {
    const container = document.createElement("div");
    container.innerHTML = await response.text();
    return container.querySelector("#case");
}

function setNextCase(promise) {
    nextProduct = null;
    nextCase = promise.then((element) => {
        nextProduct = element?.dataset.product ?? null;
        return element;
    });
    return nextCase;
}

function prefetch(...left) {
    const fields = [["shown", shownCase.dataset.product], ...left.map((product) => ["left", product])];
    const request = post(dataset.prefetchUrl, fields).then((response) => (response.status === 200 ? parseCase(response) : null));
    return setNextCase(request.catch(() => null)); // if the server is unreachable, the user learns it on the next step
}

function setCounts(counts) {
    for (const count of shownCase.querySelectorAll("[data-count]")) count.textContent = counts[count.dataset.count] ?? count.textContent;
}

const readCounts = () =>
    Object.fromEntries([...shownCase.querySelectorAll("[data-count]")].map((count) => [count.dataset.count, count.textContent]));

// ``hasNewCounts``: the counts in the element are newer than those on the page.
function showCase(element, hasNewCounts = false) {
    const counts = readCounts();
    stopFlicker();
    shownCase.replaceWith(element);
    shownCase = element;
    if (!hasNewCounts) setCounts(counts);
    if (location.pathname + location.search !== shownCase.dataset.url) history.pushState(null, "", shownCase.dataset.url);
    scrollTo(0, 0);
    startCase();
}

// Show the next case. After the last one, ``stay`` leaves the page as it is, so that the decision can be undone.
async function goToNext({ stay = false } = {}) {
    isBusy = true;
    refused = null;
    const element = (await nextCase) ?? (await prefetch());
    if (element) {
        const left = shownCase.dataset.product;
        showCase(element);
        prefetch(left);
    } else if (stay) {
        for (const button of shownCase.querySelectorAll(".cm-decide button")) button.disabled = true;
        showMessage(dataset.lastCase);
    } else {
        location.assign(shownCase.dataset.nextUrl);
    }
    setIdle();
}

// Release the leases on these cases. A beacon is sent even while the user leaves the page.
function releaseLeases(products) {
    const body = new FormData();
    for (const product of products) body.append("case", product);
    body.append("csrfmiddlewaretoken", csrfToken());
    navigator.sendBeacon(dataset.releaseUrl, body);
}

// --- Decide ----------------------------------------------------------------------------------

// Return the fields of a decision: for ``same`` and ``variant`` the chosen candidate and the marked ones.
function decisionFields(kind) {
    const value = (name) => shownCase.elements[name]?.value ?? "";
    const fields = [["decision", kind], ["reason", value("reason")], ["note", value("note")]];
    if (kind === "same" || kind === "variant") {
        const pick = picks()[chosenIndex()];
        const marked = picks().filter((other) => other === pick || other.closest("[data-marked]"));
        fields.push(...marked.map((other) => ["candidate", other.value]));
        if (kind === "variant") fields.push(["differs", value("differs") || candidates()[chosenIndex()].dataset.differs]);
    }
    return fields;
}

async function decide(fields) {
    isBusy = true;
    try {
        const version = ["version", shownCase.elements.version.value];
        const response = await post(shownCase.action, [...fields, version], "application/json");
        if (response.ok) {
            const answer = await response.json();
            decided.push(shownCase.dataset.product);
            setCounts(answer);
            say(answer.text, answer.link);
            updateUndoButton();
            if (isUndoQueued) return setIdle();
            return goToNext({ stay: true });
        }
        if (response.status === 409) {
            showCase(await parseCase(response), true);
            refused = fields;
            findButton("k")?.focus();
        } else {
            showMessage(response.status === 400 ? await response.text() : `${response.status} ${response.statusText}`);
        }
    } catch {
        showMessage(dataset.unreachable);
    }
    setIdle();
}

// Undo the last decision of this visit by going back to its case.
async function undo() {
    const product = decided.at(-1);
    if (product) await undoCase(product, []);
}

async function undoCase(product, fields) {
    isBusy = true;
    try {
        const response = await post(dataset.undoUrl.replace("/0/", `/${product}/`), fields, "text/html");
        if (response.ok || response.status === 409) {
            const index = decided.lastIndexOf(product);
            if (index >= 0) decided.splice(index, 1);
        }
        if (response.ok) {
            await nextCase; // until then its product is not known
            const [previousCase, prefetchedProduct] = [shownCase, nextProduct];
            showCase(await parseCase(response), true);
            say(dataset.undone);
            if (previousCase.dataset.product !== shownCase.dataset.product) {
                setNextCase(Promise.resolve(previousCase));
                if (prefetchedProduct) releaseLeases([prefetchedProduct]);
            }
        } else {
            showMessage(response.status === 409 ? await response.text() : `${response.status} ${response.statusText}`);
        }
    } catch {
        showMessage(dataset.unreachable);
    }
    updateUndoButton();
    setIdle();
}

function updateUndoButton() {
    const button = findButton("u");
    if (button) button.hidden = !decided.length;
}

// --- Look ------------------------------------------------------------------------------------

function load(image) {
    if (!image?.dataset.src) return;
    image.src = image.dataset.src;
    delete image.dataset.src;
}

// Show a candidate beside the image of the new product that it was compared with.
function showCandidate(index) {
    const all = candidates();
    if (!all[index]) return;
    stopFlicker();
    all.forEach((candidate, number) => {
        candidate.hidden = number !== index;
    });
    picks().forEach((pick, number) => {
        pick.checked = number === index;
    });
    const wanted = all[index].dataset.productImage;
    const images = [...shownCase.querySelectorAll('[data-stage="product"] img')];
    const asked = images.find((image) => image.dataset.image === wanted) ?? images[0];
    for (const image of images) image.hidden = image !== asked;
    for (const image of [asked, ...[index, index + 1].map((number) => all[number]?.querySelector(".cm-stage img"))]) load(image);
    picks()[index]?.closest(".cm-pick").scrollIntoView({ block: "nearest", inline: "nearest" });
    markButton("a", picks()[index]?.closest(".cm-pick").hasAttribute("data-marked"));
    if (isZoomed()) loadFull();
}

function moveChoice(step) {
    const index = Math.min(Math.max(chosenIndex() + step, 0), picks().length - 1);
    showCandidate(index);
    picks()[index]?.focus({ preventScroll: true });
}

function toggleMark() {
    const pick = picks()[chosenIndex()]?.closest(".cm-pick");
    if (pick) markButton("a", pick.toggleAttribute("data-marked"));
}

function markButton(key, isPressed) {
    findButton(key)?.setAttribute("aria-pressed", String(Boolean(isPressed)));
}

const compared = () => shownCase.querySelector("[data-compare]");
const isZoomed = () => compared().hasAttribute("data-zoomed");
const shownImages = () =>
    [shownCase.querySelector('[data-stage="product"] img:not([hidden])'), candidates()[chosenIndex()]?.querySelector(".cm-stage img")].filter(Boolean);

// The enlarged images need all the pixels that are stored.
function loadFull() {
    for (const image of shownImages()) if (!image.src.endsWith(image.dataset.full)) image.src = image.dataset.full;
}

function toggleZoom() {
    markButton("z", compared().toggleAttribute("data-zoomed"));
    if (isZoomed()) loadFull();
}

// Both images turn around the same place, so that they show the same part.
function moveZoom(event) {
    const stage = event.target.closest?.(".cm-stage");
    if (!stage || !isZoomed()) return;
    const box = stage.getBoundingClientRect();
    compared().style.setProperty("--cm-x", `${(100 * (event.clientX - box.left)) / box.width}%`);
    compared().style.setProperty("--cm-y", `${(100 * (event.clientY - box.top)) / box.height}%`);
}

function stopFlicker() {
    clearInterval(flickerTimer);
    flickerTimer = null;
    shownCase.querySelector("[data-flicker]")?.remove();
    markButton("f", false);
}

// Show the candidate's image over the product's own in turn. What differs then moves.
function toggleFlicker() {
    if (flickerTimer) return stopFlicker();
    const [asked, candidate] = shownImages();
    if (!candidate) return;
    const copy = candidate.cloneNode();
    copy.toggleAttribute("data-flicker", true);
    copy.alt = "";
    asked.after(copy);
    flickerTimer = setInterval(() => copy.toggleAttribute("data-off"), FLICKER_MS);
    markButton("f", true);
}

// Start a case at its best candidate. A screen reader hears the case, then the candidate that has the focus.
function startCase() {
    updateUndoButton();
    showCandidate(0);
    if (picks().length) picks()[0].focus({ preventScroll: true });
    else shownCase.querySelector(".cm-decide button")?.focus({ preventScroll: true });
}

// --- Keys, clicks and swipes -----------------------------------------------------------------

const ACTIONS = {
    u: undo,
    n: () => {
        say("");
        goToNext();
    },
    z: toggleZoom,
    f: toggleFlicker,
    a: toggleMark,
    k: () => goToNext(),
    o: () => refused && decide(refused),
    "?": () => document.getElementById("keys").showModal(),
    m: () => {
        const note = shownCase.querySelector(".cm-note");
        note.open = !note.open;
        if (note.open) note.querySelector("textarea").focus();
    },
};
const WHILE_BUSY = "zf?"; // keys that only change what is seen

function press(key) {
    const button = findButton(key);
    if (!isShown(button) || button.disabled) return;
    if (isBusy && !WHILE_BUSY.includes(key)) {
        // The last decision is still being sent. Queue only U: other keys would decide a case that the user has not seen.
        isUndoQueued ||= key === "u";
    } else if (button.name === "decision") {
        decide(decisionFields(button.value));
    } else {
        ACTIONS[key]?.();
    }
}

document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || document.querySelector("dialog[open]")) return;
    const { target } = event;
    if (event.key === "Escape") shownCase.querySelector(".cm-note")?.removeAttribute("open");
    if (target.closest("input:not([type=radio]), textarea, select")) return;
    const key = event.key.toLowerCase();
    if (key === "arrowright" || key === "arrowleft") {
        moveChoice(key === "arrowright" ? 1 : -1);
    } else if (key >= "1" && key <= "9" && key.length === 1) {
        const index = Number(key) - 1;
        if (!picks()[index]) return;
        showCandidate(index);
        picks()[index].focus({ preventScroll: true });
    } else if (key === "enter") {
        if (target.closest("a, button, summary")) return; // which has its own effect
        press("enter");
    } else if (findButton(key)) {
        press(key);
    } else {
        return;
    }
    event.preventDefault();
});

review.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const button = event.target.closest("[data-key]");
    const undoThis = event.target.closest("[data-undo-this]");
    if (undoThis) {
        event.preventDefault();
        if (!isBusy) undoCase(shownCase.dataset.product, [["version", shownCase.elements.version.value]]);
    } else if (button && button.dataset.key !== "m") {
        event.preventDefault();
        press(button.dataset.key);
    } else if (event.target.closest(".cm-stage") && !swiped) {
        toggleZoom();
        moveZoom(event);
    }
});
review.addEventListener("change", (event) => {
    if (event.target.name === "candidate") showCandidate(picks().indexOf(event.target));
});
review.addEventListener("submit", (event) => {
    if (event.target.id === "case") event.preventDefault();
});
review.addEventListener("pointermove", moveZoom);

let swipe = null;
let swiped = false; // the pointer has just swiped, so its click is none
review.addEventListener("pointerdown", (event) => {
    swiped = false;
    swipe = event.pointerType === "touch" && event.target.closest(".cm-stage") && !isZoomed() ? event : null;
});
review.addEventListener("pointerup", (event) => {
    if (!swipe) return;
    const [x, y] = [event.clientX - swipe.clientX, event.clientY - swipe.clientY];
    swipe = null;
    if (Math.abs(x) < SWIPE_PIXELS || Math.abs(y) > Math.abs(x)) return;
    swiped = true;
    moveChoice(x < 0 ? 1 : -1);
});

document.getElementById("review-filter").addEventListener("change", (event) => event.currentTarget.requestSubmit());
addEventListener("popstate", () => {
    if (location.pathname + location.search !== shownCase.dataset.url) location.reload();
});

// A reviewer has leases on the shown case and the next one. Renew them while the page is open, release them afterwards.
if (dataset.renewUrl) {
    const leasedProducts = () => [shownCase.dataset.product, nextProduct].filter(Boolean);
    const renewLeases = async () => {
        if (document.visibilityState !== "visible") return;
        await nextCase;
        const response = await post(dataset.renewUrl, leasedProducts().map((product) => ["case", product])).catch(() => null);
        if (!response?.ok) return;
        const renewed = (await response.json()).held.map(String);
        if (!renewed.includes(shownCase.dataset.product)) showMessage(dataset.leaseLost);
        if (nextProduct && !renewed.includes(nextProduct)) prefetch();
    };
    setInterval(renewLeases, RENEW_MS);
    document.addEventListener("visibilitychange", renewLeases);
    addEventListener("pageshow", (event) => event.persisted && renewLeases());
    addEventListener("pagehide", () => releaseLeases(leasedProducts()));
}

startCase();
prefetch();
