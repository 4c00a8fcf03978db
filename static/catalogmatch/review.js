// Review case after case without loading a page. The next case and its images are loaded before the verdict.
// Keys: arrows choose a candidate, C and R judge it, X rejects all pending ones, N skips, U undoes, V shows the next image.
const review = document.getElementById("review");
const { dataset } = review;
const RENEW_MS = 3 * 60 * 1000; // well before the lease on a case expires
let shownCase = document.getElementById("case");
let nextCase = null; // a promise of the next case's element, or of null if there is none
let nextProduct = null; // the product of the next case, or null until it is known
let isBusy = false; // a verdict or a change of case is under way
let isUndoQueued = false; // the user pressed U during that
let lastVerdict = null; // the verdict that the current response brought
const decisions = []; // the decisions of this visit, the latest last: {product, matches}

const candidates = () => [...shownCase.querySelectorAll(".cm-candidate")];
const focusedCandidate = () => document.activeElement?.closest(".cm-candidate");
const pendingCandidates = () => candidates().filter((candidate) => candidate.querySelector('[data-verdict="pending"]'));
const findButton = (key) => shownCase.querySelector(`.cm-case-head [data-key="${key}"]`);

function showMessage(text) {
    showAlert(shownCase.querySelector(".cm-case-head"), text);
}

function setIdle() {
    isBusy = false;
    if (!isUndoQueued) return;
    isUndoQueued = false;
    pressButton("u");
}

async function post(url, fields) {
    const body = new URLSearchParams(fields);
    const headers = { "X-CSRFToken": csrfToken() };
    const response = await fetch(url, { method: "POST", body, headers });
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

// ``hasNewCounts``: the counts in the element are newer than those on the page.
function showCase(element, hasNewCounts = false) {
    for (const count of hasNewCounts ? [] : element.querySelectorAll("[data-count]")) {
        const current = shownCase.querySelector(`[data-count="${count.dataset.count}"]`);
        if (current) count.textContent = current.textContent;
    }
    shownCase.replaceWith(element);
    shownCase = element;
    htmx.process(shownCase);
    history.pushState(null, "", shownCase.dataset.url);
    scrollTo(0, 0);
    startCase();
}

// Show the next case. After the last one, ``stay`` leaves the page as it is, so that the verdict can be undone.
async function goToNext({ stay = false } = {}) {
    isBusy = true;
    const element = (await nextCase) ?? (await prefetch());
    if (element) {
        const left = shownCase.dataset.product;
        showCase(element);
        prefetch(left);
    } else if (stay) {
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

function undoInShownCase(match) {
    const candidate = shownCase.querySelector(`[data-match="${match}"]`);
    candidate?.focus();
    candidate?.querySelector('[data-key="u"]')?.click();
}

// Undo the last decision of this visit: with its own button in this case, or else by going back to its case.
async function undo() {
    const decision = decisions.at(-1);
    if (!decision) return;
    const isInShownCase = decision.product === Number(shownCase.dataset.product);
    if (isInShownCase && decision.matches.length === 1) return undoInShownCase(decision.matches[0]);
    isBusy = true;
    try {
        const url = dataset.undoUrl.replace("/0/", `/${decision.product}/`);
        const response = await post(url, decision.matches.map((match) => ["match", match]));
        if (response.ok || response.status === 409) decisions.pop();
        if (response.ok) {
            await nextCase; // until then its product is not known
            const [previousCase, prefetchedProduct] = [shownCase, nextProduct];
            showCase(await parseCase(response), true);
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
    setIdle();
}

function moveFocus(step) {
    const all = candidates();
    all[Math.min(Math.max(all.indexOf(focusedCandidate()) + step, 0), all.length - 1)]?.focus();
}

// Show the image of this thumbnail as the large image of the candidate.
function showImage(candidate, thumbnail) {
    const large = candidate.querySelector(".cm-big a");
    large.href = thumbnail.href;
    large.querySelector("img").src = thumbnail.href;
    for (const other of candidate.querySelectorAll("[data-image]")) other.toggleAttribute("data-shown", other === thumbnail);
}

function nextImage(candidate) {
    const thumbnails = [...candidate.querySelectorAll("[data-image]")];
    const index = Math.max(thumbnails.findIndex((thumbnail) => thumbnail.hasAttribute("data-shown")), 0);
    if (thumbnails.length) showImage(candidate, thumbnails[(index + 1) % thumbnails.length]);
}

function updateUndoButton() {
    const button = findButton("u");
    if (button) button.hidden = !decisions.length;
}

// Start a case at its first pending candidate.
function startCase() {
    updateUndoButton();
    (pendingCandidates()[0] ?? candidates()[0])?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || event.target.closest("input, textarea, select")) return;
    const key = event.key.toLowerCase();
    const candidate = focusedCandidate() ?? candidates()[0];
    if (key === "arrowright" || key === "arrowleft") {
        moveFocus(key === "arrowright" ? 1 : -1);
        event.preventDefault();
    } else if (key === "v" && candidate) {
        nextImage(candidate);
    } else if (isBusy) {
        // The last verdict is still being sent. Queue only U: other keys would judge a case that the user has not seen.
        isUndoQueued ||= key === "u";
    } else {
        pressButton(key);
    }
});

function pressButton(key) {
    const candidate = focusedCandidate() ?? candidates()[0];
    const ofCandidate = "cru".includes(key) ? candidate?.querySelector(`[data-key="${key}"]`) : null;
    (ofCandidate ?? ("uxn".includes(key) ? findButton(key) : null))?.click();
}

review.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const skip = event.target.closest('[data-key="n"]');
    const undoButton = event.target.closest('.cm-case-head [data-key="u"]');
    const thumbnail = event.target.closest("[data-image]");
    if (thumbnail) showImage(thumbnail.closest(".cm-candidate"), thumbnail);
    else if (skip && !isBusy) goToNext();
    else if (undoButton && !isBusy) undo();
    if (thumbnail || skip) event.preventDefault();
});

// The server sends this event with every verdict. It has the new counts and what can be undone.
document.addEventListener("verdict", ({ detail }) => {
    for (const count of document.querySelectorAll("[data-count]")) count.textContent = detail[count.dataset.count];
    lastVerdict = detail;
    if (detail.status === "pending") {
        const index = decisions.findLastIndex((decision) => decision.matches.includes(detail.matches[0]));
        if (index >= 0) decisions.splice(index, 1);
    } else {
        decisions.push({ product: detail.product, matches: detail.matches });
    }
});

review.addEventListener("htmx:beforeRequest", () => {
    isBusy = true;
    lastVerdict = null;
});
review.addEventListener("htmx:afterRequest", () => {
    updateUndoButton();
    if (!lastVerdict) return setIdle(); // admin.js shows the error
    const verdict = lastVerdict;
    const judged = shownCase.querySelector(`[data-match="${verdict.matches[0]}"]`);
    (verdict.status === "rejected" ? pendingCandidates()[0] ?? judged : judged)?.focus();
    setIdle();
    if (isBusy) return; // the queued undo has started
    if (verdict.none) goToNext();
    else if (verdict.status !== "pending" && !pendingCandidates().length) goToNext({ stay: true });
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
