// Case after case without loading a page: the next one is here, with its pictures, before this one is decided.
// One key each: arrows choose a candidate, C and R judge it, X rejects all that wait, N skips, U undoes, V turns views.
const review = document.getElementById("review");
const words = review.dataset;
const RENEW_MS = 3 * 60 * 1000; // well before the server gives a held case to somebody else
let shown = document.getElementById("case");
let ahead = null; // a promise of the next case's element, or of null when there is none
let aheadProduct = null; // whose case that is, once it is known
let busy = false; // a verdict or a change of case is under way
let undoWanted = false; // U was pressed meanwhile
let told = null; // the verdict that the answer under way brought
const decided = []; // what was judged on this visit, the latest last: {product, matches}

const candidates = () => [...shown.querySelectorAll(".cm-candidate")];
const current = () => document.activeElement?.closest(".cm-candidate");
const waiting = () => candidates().filter((one) => one.querySelector('[data-verdict="pending"]'));
const find = (key) => shown.querySelector(`.cm-case-head [data-key="${key}"]`);

function tell(text) {
    say(shown.querySelector(".cm-case-head"), text);
}

function idle() {
    busy = false;
    if (!undoWanted) return;
    undoWanted = false;
    press("u");
}

async function post(address, fields) {
    const body = new URLSearchParams(fields);
    const headers = { "X-CSRFToken": csrfToken() };
    const answer = await fetch(address, { method: "POST", body, headers });
    if (new URL(answer.url).pathname.endsWith("/login/")) {
        signInAgain(answer.url);
        throw new Error("signed out");
    }
    return answer;
}

// A case that is not in the page yet: its pictures load all the same.
async function read(answer) {
    const box = document.createElement("div");
    box.innerHTML = await answer.text();
    return box.querySelector("#case");
}

function keepAhead(promise) {
    aheadProduct = null;
    ahead = promise.then((next) => {
        aheadProduct = next?.dataset.product ?? null;
        return next;
    });
    return ahead;
}

function lookAhead(...left) {
    const fields = [["shown", shown.dataset.product], ...left.map((product) => ["left", product])];
    const asked = post(words.ahead, fields).then((answer) => (answer.status === 200 ? read(answer) : null));
    return keepAhead(asked.catch(() => null)); // unreachable: whoever goes on learns it then
}

// ``fresh``: the counts in it are newer than those that are shown.
function show(next, fresh = false) {
    for (const count of fresh ? [] : next.querySelectorAll("[data-count]")) {
        const known = shown.querySelector(`[data-count="${count.dataset.count}"]`);
        if (known) count.textContent = known.textContent;
    }
    shown.replaceWith(next);
    shown = next;
    htmx.process(shown);
    history.pushState(null, "", shown.dataset.address);
    scrollTo(0, 0);
    begin();
}

// On to the next case. After the last, a decision leaves the page as it is, so that it can be undone.
async function goOn({ stay = false } = {}) {
    busy = true;
    const next = (await ahead) ?? (await lookAhead());
    if (next) {
        const left = shown.dataset.product;
        show(next);
        lookAhead(left);
    } else if (stay) {
        tell(words.last);
    } else {
        location.assign(shown.dataset.next);
    }
    idle();
}

// Gives cases up; sent even when the page is left at this moment.
function release(products) {
    const body = new FormData();
    for (const product of products) body.append("case", product);
    body.append("csrfmiddlewaretoken", csrfToken());
    navigator.sendBeacon(words.release, body);
}

function undoHere(match) {
    const candidate = shown.querySelector(`[data-match="${match}"]`);
    candidate?.focus();
    candidate?.querySelector('[data-key="u"]')?.click();
}

// The last decision of this visit: in this case by its own button, otherwise by going back to where it was made.
async function undo() {
    const last = decided.at(-1);
    if (!last) return;
    if (last.product === Number(shown.dataset.product) && last.matches.length === 1) return undoHere(last.matches[0]);
    busy = true;
    try {
        const answer = await post(words.undo.replace("/0/", `/${last.product}/`), last.matches.map((match) => ["match", match]));
        if (answer.ok || answer.status === 409) decided.pop();
        if (answer.ok) {
            await ahead; // whose case that is, is known then
            const [before, spare] = [shown, aheadProduct];
            show(await read(answer), true);
            if (before.dataset.product !== shown.dataset.product) {
                keepAhead(Promise.resolve(before));
                if (spare) release([spare]);
            }
        } else {
            tell(answer.status === 409 ? await answer.text() : `${answer.status} ${answer.statusText}`);
        }
    } catch {
        tell(words.unreachable);
    }
    idle();
}

function choose(step) {
    const all = candidates();
    all[Math.min(Math.max(all.indexOf(current()) + step, 0), all.length - 1)]?.focus();
}

// The large picture of a candidate is the view that was chosen.
function turn(candidate, view) {
    const large = candidate.querySelector(".cm-big a");
    large.href = view.href;
    large.querySelector("img").src = view.href;
    for (const other of candidate.querySelectorAll("[data-view]")) other.toggleAttribute("data-shown", other === view);
}

function turnOn(candidate) {
    const views = [...candidate.querySelectorAll("[data-view]")];
    const at = Math.max(views.findIndex((view) => view.hasAttribute("data-shown")), 0);
    if (views.length) turn(candidate, views[(at + 1) % views.length]);
}

function offerUndo() {
    const button = find("u");
    if (button) button.hidden = !decided.length;
}

// A case begins at its first candidate that waits.
function begin() {
    offerUndo();
    (waiting()[0] ?? candidates()[0])?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || event.target.closest("input, textarea, select")) return;
    const key = event.key.toLowerCase();
    const chosen = current() ?? candidates()[0];
    if (key === "arrowright" || key === "arrowleft") {
        choose(key === "arrowright" ? 1 : -1);
        event.preventDefault();
    } else if (key === "v" && chosen) {
        turnOn(chosen);
    } else if (busy) {
        // The decision before is still on its way. Only U is kept: another would judge a case that nobody has seen.
        undoWanted ||= key === "u";
    } else {
        press(key);
    }
});

function press(key) {
    const chosen = current() ?? candidates()[0];
    const onCandidate = "cru".includes(key) ? chosen?.querySelector(`[data-key="${key}"]`) : null;
    (onCandidate ?? ("uxn".includes(key) ? find(key) : null))?.click();
}

review.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const [skip, back, view] = ['[data-key="n"]', '.cm-case-head [data-key="u"]', "[data-view]"].map((one) => event.target.closest(one));
    if (view) turn(view.closest(".cm-candidate"), view);
    else if (skip && !busy) goOn();
    else if (back && !busy) undo();
    if (view || skip) event.preventDefault();
});

// Each verdict brings the new counts along, and tells what may be undone.
document.addEventListener("verdict", ({ detail }) => {
    for (const count of document.querySelectorAll("[data-count]")) count.textContent = detail[count.dataset.count];
    told = detail;
    if (detail.status === "pending") {
        const at = decided.findLastIndex((one) => one.matches.includes(detail.matches[0]));
        if (at >= 0) decided.splice(at, 1);
    } else {
        decided.push({ product: detail.product, matches: detail.matches });
    }
});

review.addEventListener("htmx:beforeRequest", () => {
    busy = true;
    told = null;
});
review.addEventListener("htmx:afterRequest", () => {
    offerUndo();
    if (!told) return idle(); // refused or not sent: admin.js says so
    const verdict = told;
    const judged = shown.querySelector(`[data-match="${verdict.matches[0]}"]`);
    (verdict.status === "rejected" ? waiting()[0] ?? judged : judged)?.focus();
    idle();
    if (busy) return; // undone already
    if (verdict.none) goOn();
    else if (verdict.status !== "pending" && !waiting().length) goOn({ stay: true });
});

document.getElementById("selection").addEventListener("change", (event) => event.currentTarget.requestSubmit());
addEventListener("popstate", () => {
    if (location.pathname + location.search !== shown.dataset.address) location.reload();
});

// Whoever looks at a case holds it, and the one ahead too; whoever leaves gives both up.
if (words.hold) {
    const held = () => [shown.dataset.product, aheadProduct].filter(Boolean);
    const renew = async () => {
        if (document.visibilityState !== "visible") return;
        await ahead;
        const answer = await post(words.hold, held().map((product) => ["case", product])).catch(() => null);
        if (!answer?.ok) return;
        const mine = (await answer.json()).held.map(String);
        if (!mine.includes(shown.dataset.product)) tell(words.lost);
        if (aheadProduct && !mine.includes(aheadProduct)) lookAhead();
    };
    setInterval(renew, RENEW_MS);
    document.addEventListener("visibilitychange", renew);
    addEventListener("pageshow", (event) => event.persisted && renew());
    addEventListener("pagehide", () => release(held()));
}

begin();
lookAhead();
