// Search again whenever the image or an option changes. Words are searched with Enter or the button.
const form = document.getElementById("search-form");
const threshold = document.getElementById("id_threshold");
const text = document.getElementById("id_text");
const images = form.querySelector("input[type=file]");
const weight = document.getElementById("id_image_weight");
// Words score far lower than images, so they start at 0. What the user chose stays.
const usual = threshold.value;
let isChosen = false;

function showOptions() {
    const hasWords = text.value.trim() !== "";
    if (!isChosen) threshold.value = hasWords ? 0 : usual;
    document.getElementById("threshold-value").textContent = threshold.value;
    document.getElementById("image-weight").hidden = !hasWords || !images.files.length;
    document.getElementById("image-weight-value").textContent = `${Math.round(100 * weight.value)} %`;
}
threshold.addEventListener("input", () => {
    isChosen = true;
});
for (const name of ["input", "change"]) form.addEventListener(name, showOptions);
showOptions();
form.addEventListener("change", (event) => {
    if (event.target === text) return; // Enter also submits the form
    if (images.files.length || text.value.trim()) htmx.trigger(form, "search");
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
