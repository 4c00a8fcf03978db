// While a file is on its way its progress shows, and leaving the page is asked about.
const form = document.getElementById("import-form");
const progress = form.querySelector("progress");
let sending = false;

function busy(now) {
    sending = now;
    progress.hidden = !now;
}

form.addEventListener("htmx:beforeRequest", (event) => {
    const size = [...form.elements.files.files].reduce((sum, file) => sum + file.size, 0);
    if (size <= Number(form.dataset.limit)) return;
    event.preventDefault();
    document.getElementById("import-error").replaceChildren(alertOf(form.dataset.tooLarge));
});
form.addEventListener("htmx:beforeSend", () => busy(true));
form.addEventListener("htmx:afterRequest", () => busy(false));
form.addEventListener("htmx:xhr:progress", (event) => {
    if (event.detail.lengthComputable) progress.value = event.detail.loaded / event.detail.total;
});
addEventListener("beforeunload", (event) => {
    if (sending) event.preventDefault();
});
