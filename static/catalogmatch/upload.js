// Each picture a product of its own: the files go one by one, a few at a time, and each tells what became of it.
const AT_ONCE = 3;
const form = document.getElementById("upload-form");
const each = form.querySelector("[name=each]");
const single = form.querySelectorAll("[data-single]");
const progress = form.querySelector("progress");
const results = document.getElementById("upload-results");
const words = results.dataset;
const stored = new WeakSet(); // files that are in already: pressing the button again sends the others only
let busy = false;

each.closest("[hidden]").hidden = false;
each.addEventListener("change", () => {
    for (const part of single) part.hidden = each.checked;
});

function body(file) {
    const data = new FormData();
    data.append("image", file);
    data.append("name", file.name.replace(/\.[^.]*$/, ""));
    data.append("category", form.elements.category.value);
    data.append("is_historical", form.elements.is_historical.checked);
    data.append("unless_known", true); // a folder that is sent again, after a tab was closed, is not stored twice
    return data;
}

function addLink(item, address, text) {
    const link = document.createElement("a");
    link.className = "cm-link";
    link.href = address;
    link.textContent = text;
    item.append(" ", link);
    return link;
}

function show(item, state, text, product) {
    const mark = document.createElement("span");
    mark.className = `cm-state cm-state-${state}`;
    mark.textContent = text;
    item.replaceChildren(item.dataset.name, " ", mark);
    if (product) addLink(item, words.product.replace("/0/", `/${product}/`), `#${product}`);
}

function askToSignIn(item) {
    show(item, "failed", words.signedOut);
    addLink(item, words.signIn, words.signInText).target = "_blank";
}

async function send(file, item) {
    show(item, "claimed", words.sending);
    const headers = { "X-CSRFToken": csrfToken() };
    try {
        const answer = await fetch(words.address, { method: "POST", body: body(file), headers });
        const told = await answer.json();
        if (answer.ok) stored.add(file);
        if (answer.status === 401) askToSignIn(item);
        else if (!answer.ok) show(item, "failed", told.detail);
        else if (answer.status === 200) show(item, "pending", words.known, told.product_id);
        else show(item, "ready", words.added, told.product_id);
    } catch (error) {
        show(item, "failed", `${words.lost} (${error.message})`);
    }
    progress.value += 1;
}

form.addEventListener("submit", async (event) => {
    if (!each.checked) return;
    event.preventDefault();
    const files = [...form.elements.pictures.files].filter((file) => !stored.has(file));
    if (busy || !files.length) return;
    busy = true;
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
    const workers = Array.from({ length: AT_ONCE }, async () => {
        while (next < files.length) {
            const number = next++;
            await send(files[number], items[number]);
        }
    });
    await Promise.all(workers);
    busy = false;
});

addEventListener("beforeunload", (event) => {
    if (busy) event.preventDefault();
});
