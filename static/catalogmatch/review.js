// One key each: arrows choose a candidate, C, R and U judge it, X rejects all that wait, N goes to the next case.
const candidates = () => [...document.querySelectorAll(".cm-candidate")];
const current = () => document.activeElement?.closest(".cm-candidate");

function choose(step) {
    const all = candidates();
    const at = all.indexOf(current());
    all[Math.min(Math.max(at + step, 0), all.length - 1)]?.focus();
}

document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea, select")) return;
    const key = event.key.toLowerCase();
    if (key === "arrowright" || key === "arrowleft") {
        choose(key === "arrowright" ? 1 : -1);
        event.preventDefault();
    } else if (["c", "r", "u"].includes(key)) {
        (current() ?? candidates()[0])?.querySelector(`[data-key="${key}"]`)?.click();
    } else if (["x", "n"].includes(key)) {
        document.querySelector(`[data-review] [data-key="${key}"]`)?.click();
    }
});

// Each verdict brings the new counts along.
document.addEventListener("verdict", (event) => {
    for (const count of document.querySelectorAll("[data-count]")) count.textContent = event.detail[count.dataset.count];
});

// The buttons that were pressed are replaced by the answer: keep the place.
document.addEventListener("htmx:afterSwap", (event) => {
    if (!current()) event.detail.elt.closest?.(".cm-candidate")?.focus({ preventScroll: true });
});

// A case begins at its first candidate that waits.
function begin() {
    candidates().find((one) => one.querySelector('[data-verdict="pending"]'))?.focus({ preventScroll: true });
}
document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.elt.id === "case") begin();
});
begin();
