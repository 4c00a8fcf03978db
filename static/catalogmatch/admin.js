// Read the token from the cookie: after signing in again in another tab, the token in the page is an old one.
function csrfToken() {
    return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb === "post") event.detail.parameters.csrfmiddlewaretoken = csrfToken();
});

// Go to the sign-in page at ``url``. It says that the session has ended and leads back to this page.
function signInAgain(url) {
    location.assign(`${url.split("?")[0]}?ended=1&next=${encodeURIComponent(location.pathname + location.search)}`);
}

// Without this, a partial update would hide that a session has ended or that a form has errors.
document.addEventListener("htmx:beforeSwap", (event) => {
    if (new URL(event.detail.xhr.responseURL || location.href).pathname.endsWith("/login/")) {
        event.detail.shouldSwap = false;
        signInAgain(event.detail.xhr.responseURL);
    } else if (event.detail.xhr.status === 422) {
        event.detail.shouldSwap = true;
        event.detail.isError = false;
    }
});

function createAlert(text) {
    const alert = document.createElement("p");
    alert.className = "cm-alert";
    alert.setAttribute("role", "alert");
    alert.textContent = text;
    return alert;
}

function showAlert(element, text) {
    const alert = createAlert(text);
    element.insertAdjacentElement("afterend", alert);
    setTimeout(() => alert.remove(), 8000);
}

document.addEventListener("htmx:responseError", ({ detail }) => showAlert(detail.elt, `${detail.xhr.status} ${detail.xhr.statusText}`));
document.addEventListener("htmx:sendError", ({ detail }) => showAlert(detail.elt, `⚠ ${location.host}`));

document.addEventListener("submit", (event) => {
    const text = event.submitter?.dataset.confirm;
    if (text && !confirm(text)) event.preventDefault();
});

// Some controls of the admin are links without an address or plain text. Make them usable with the keyboard.
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

// Parts of the admin that screen readers cannot tell apart get names of their own.
window.addEventListener("load", () => {
    document.querySelectorAll(".simplebar-content-wrapper[role=region]").forEach((region, number) => {
        if (number) region.setAttribute("aria-label", `${region.getAttribute("aria-label")} ${number + 1}`);
    });
    for (const cell of document.querySelectorAll("th")) {
        if (!cell.textContent.trim() && !cell.querySelector("input, img")) cell.replaceWith(Object.assign(document.createElement("td"), { className: cell.className }));
    }
});

// Another row for an attribute. Without the script, the form has a few empty ones.
document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-add-attribute]");
    if (!button) return;
    const row = button.previousElementSibling.cloneNode(true);
    for (const input of row.querySelectorAll("input")) input.value = input.type === "hidden" ? "text" : "";
    button.before(row);
    row.querySelector("input:not([type=hidden])").focus();
});

// The list of products as a grid of large images. The browser remembers the choice.
document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-grid]");
    if (!button) return;
    const show = (isGrid) => {
        document.body.classList.toggle("cm-grid", isGrid);
        button.setAttribute("aria-pressed", isGrid);
        localStorage.setItem("products-as-grid", isGrid ? "1" : "");
    };
    show(localStorage.getItem("products-as-grid") === "1");
    button.addEventListener("click", () => show(!document.body.classList.contains("cm-grid")));
});
