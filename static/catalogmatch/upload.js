// Upload each image as a product of its own: a few at a time, with a result for each.
const MAX_CONCURRENT = 3;
const form = document.getElementById("upload-form");
const each = form.querySelector("[name=each]");
const singleProductParts = form.querySelectorAll("[data-single]");
const progress = form.querySelector("progress");
const results = document.getElementById("upload-results");
const { dataset } = results;
const stored = new WeakSet(); // stored files are not sent again when the user presses Add again
let isSending = false;

each.closest("[hidden]").hidden = false;
each.addEventListener("change", () => {
    for (const part of singleProductParts) part.hidden = each.checked;
});

function requestBody(file) {
    const data = new FormData();
    data.append("image", file);
    data.append("name", file.name.replace(/\.[^.]*$/, ""));
    data.append("category", form.elements.category.value);
    data.append("is_historical", form.elements.is_historical.checked);
    data.append("unless_known", true); // a folder that is sent again after a closed tab is not stored twice
    return data;
}

function addLink(item, url, text) {
    const link = document.createElement("a");
    link.className = "cm-link";
    link.href = url;
    link.textContent = text;
    item.append(" ", link);
    return link;
}

function showResult(item, state, text, product) {
    const badge = document.createElement("span");
    badge.className = `cm-state cm-state-${state}`;
    badge.textContent = text;
    item.replaceChildren(item.dataset.name, " ", badge);
    if (product) addLink(item, dataset.productUrl.replace("/0/", `/${product}/`), `#${product}`);
}

function askToSignIn(item) {
    showResult(item, "failed", dataset.signedOut);
    addLink(item, dataset.loginUrl, dataset.signIn).target = "_blank";
}

async function send(file, item) {
    showResult(item, "claimed", dataset.sending);
    const headers = { "X-CSRFToken": csrfToken() };
    try {
        const response = await fetch(dataset.uploadUrl, { method: "POST", body: requestBody(file), headers });
        const result = await response.json();
        if (response.ok) stored.add(file);
        if (response.status === 401) askToSignIn(item);
        else if (!response.ok) showResult(item, "failed", result.detail);
        else if (response.status === 200) showResult(item, "pending", dataset.existing, result.product_id);
        else showResult(item, "ready", dataset.added, result.product_id);
    } catch (error) {
        showResult(item, "failed", `${dataset.notSent} (${error.message})`);
    }
    progress.value += 1;
}

form.addEventListener("submit", async (event) => {
    if (!each.checked) return;
    event.preventDefault();
    const files = [...form.elements.images.files].filter((file) => !stored.has(file));
    if (isSending || !files.length) return;
    isSending = true;
    progress.hidden = false;
    progress.value = 0;
    progress.max = files.length;
    const items = files.map((file) => {
        const item = document.createElement("li");
        item.dataset.name = file.name;
        item.textContent = file.name;
        return item;
    });
    results.replaceChildren(...items);
    let next = 0;
    const senders = Array.from({ length: MAX_CONCURRENT }, async () => {
        while (next < files.length) {
            const number = next++;
            await send(files[number], items[number]);
        }
    });
    await Promise.all(senders);
    isSending = false;
});

addEventListener("beforeunload", (event) => {
    if (isSending) event.preventDefault();
});
