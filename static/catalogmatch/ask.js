// Ask again by itself when the picture or one of the settings changes.
const form = document.getElementById("ask-form");
const threshold = document.getElementById("id_threshold");

threshold.addEventListener("input", () => {
    document.getElementById("threshold-value").textContent = threshold.value;
});
form.addEventListener("change", () => {
    if (form.querySelector("input[type=file]").files.length) htmx.trigger(form, "ask");
});
// "Save as a new product" leaves the page with the picture, so htmx must not take that submit.
form.addEventListener("submit", (event) => {
    if (event.submitter?.hasAttribute("data-plain")) {
        event.preventDefault();
        event.stopImmediatePropagation();
        form.action = event.submitter.formAction;
        HTMLFormElement.prototype.submit.call(form);
    }
}, true);
