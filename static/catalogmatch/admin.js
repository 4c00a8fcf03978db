// The cookie's, not the page's: after signing in again in another tab the page's own token is an old one.
function csrfToken() {
    return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb === "post") event.detail.parameters.csrfmiddlewaretoken = csrfToken();
});

// ``address``: of the sign-in page, which says that the session has ended and leads back here.
function signInAgain(address) {
    location.assign(`${address.split("?")[0]}?ended=1&next=${encodeURIComponent(location.pathname + location.search)}`);
}

// A session that ended or a refusal must be seen where the person is, not swallowed by a partial update.
document.addEventListener("htmx:beforeSwap", (event) => {
    if (new URL(event.detail.xhr.responseURL || location.href).pathname.endsWith("/login/")) {
        event.detail.shouldSwap = false;
        signInAgain(event.detail.xhr.responseURL);
    } else if (event.detail.xhr.status === 422) {
        event.detail.shouldSwap = true;
        event.detail.isError = false;
    }
});

function alertOf(text) {
    const note = document.createElement("p");
    note.className = "cm-alert";
    note.setAttribute("role", "alert");
    note.textContent = text;
    return note;
}

function say(target, text) {
    const note = alertOf(text);
    target.insertAdjacentElement("afterend", note);
    setTimeout(() => note.remove(), 8000);
}

document.addEventListener("htmx:responseError", (event) => say(event.detail.elt, event.detail.xhr.status + " " + event.detail.xhr.statusText));
document.addEventListener("htmx:sendError", (event) => say(event.detail.elt, "⚠ " + location.host));

document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
});

// Some of the admin's own controls are links without an address or plain text: let the keyboard reach them too.
document.addEventListener("DOMContentLoaded", () => {
    for (const control of document.querySelectorAll("a:not([href])[x-on\\:click], span[x-on\\:click], div.cursor-pointer[x-on\\:click]")) {
        control.tabIndex = 0;
        control.setAttribute("role", "button");
        control.addEventListener("keydown", (event) => {
            if (event.key !== "Enter" && event.key !== " ") return;
            event.preventDefault();
            control.click();
        });
    }
});
