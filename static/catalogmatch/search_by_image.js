// Search again whenever the image or an option changes.
const form = document.getElementById("search-form");
const threshold = document.getElementById("id_threshold");

threshold.addEventListener("input", () => {
    document.getElementById("threshold-value").textContent = threshold.value;
});
form.addEventListener("change", () => {
    if (form.querySelector("input[type=file]").files.length) htmx.trigger(form, "search");
});
// "Save as a new product" opens another page with the image, so htmx must not handle this submit.
form.addEventListener("submit", (event) => {
    if (event.submitter?.hasAttribute("data-plain")) {
        event.preventDefault();
        event.stopImmediatePropagation();
        form.action = event.submitter.formAction;
        HTMLFormElement.prototype.submit.call(form);
    }
}, true);
