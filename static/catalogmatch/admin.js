// A session that ended or a refusal must be seen where the person is, not swallowed by a partial update.
document.addEventListener("htmx:beforeSwap", (event) => {
    if (new URL(event.detail.xhr.responseURL || location.href).pathname.endsWith("/login/")) {
        event.detail.shouldSwap = false;
        location.assign(event.detail.xhr.responseURL.split("?")[0] + "?next=" + encodeURIComponent(location.pathname + location.search));
    } else if (event.detail.xhr.status === 422) {
        event.detail.shouldSwap = true;
        event.detail.isError = false;
    }
});

function say(target, text) {
    const note = document.createElement("p");
    note.className = "cm-alert";
    note.setAttribute("role", "alert");
    note.textContent = text;
    target.insertAdjacentElement("afterend", note);
    setTimeout(() => note.remove(), 8000);
}

document.addEventListener("htmx:responseError", (event) => say(event.detail.elt, event.detail.xhr.status + " " + event.detail.xhr.statusText));
document.addEventListener("htmx:sendError", (event) => say(event.detail.elt, "⚠ " + location.host));

document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
});
