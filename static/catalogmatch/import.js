// Show the progress of an upload, and ask before the user leaves the page during it.
const form = document.getElementById("import-form");
const progress = form.querySelector("progress");
let isSending = false;

function setSending(value) {
    isSending = value;
    progress.hidden = !value;
}

form.addEventListener("htmx:beforeRequest", (event) => {
    const size = [...form.elements.files.files].reduce((sum, file) => sum + file.size, 0);
    if (size <= Number(form.dataset.maxBytes)) return;
    event.preventDefault();
    document.getElementById("import-error").replaceChildren(createAlert(form.dataset.tooLarge));
});
form.addEventListener("htmx:beforeSend", () => setSending(true));
form.addEventListener("htmx:afterRequest", () => setSending(false));
form.addEventListener("htmx:xhr:progress", (event) => {
    if (event.detail.lengthComputable) progress.value = event.detail.loaded / event.detail.total;
});
addEventListener("beforeunload", (event) => {
    if (isSending) event.preventDefault();
});
