// Pictures can be dropped (folders too), pasted or chosen; what was chosen is shown. The file input keeps the files.
const SHOWN = 60;

function isPicture(file) {
    return file.type.startsWith("image/") || /\.(heic|heif|avif)$/i.test(file.name);
}

function choose(input, files) {
    const transfer = new DataTransfer();
    for (const file of input.multiple ? files : files.slice(0, 1)) transfer.items.add(file);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
}

// All files of a dropped entry, those in folders below it included.
async function filesOf(entry) {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader();
    const files = [];
    for (;;) {
        const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!entries.length) return files;
        for (const child of entries) files.push(...await filesOf(child));
    }
}

for (const zone of document.querySelectorAll("[data-dropzone]")) {
    const input = zone.querySelector("input[type=file]");
    const list = zone.querySelector("ul");
    const isWanted = zone.dataset.dropzone === "files" ? () => true : isPicture;
    input.hasChangeListener = true; // the admin's own script would write the file's name into the next text field

    const show = () => {
        for (const picture of list.querySelectorAll("img")) URL.revokeObjectURL(picture.src);
        const items = [...input.files].slice(0, SHOWN).map((file) => {
            const item = document.createElement("li");
            if (!isPicture(file)) {
                item.textContent = file.name;
                return item;
            }
            const picture = document.createElement("img");
            picture.src = URL.createObjectURL(file);
            picture.alt = "";
            picture.onerror = () => picture.remove(); // a kind that the browser cannot show, such as HEIC
            item.append(picture, file.name);
            return item;
        });
        if (input.files.length > SHOWN) {
            const more = document.createElement("li");
            more.textContent = `+ ${input.files.length - SHOWN}`;
            items.push(more);
        }
        list.replaceChildren(...items);
    };
    input.addEventListener("change", show);
    if (input.files.length) show(); // chosen before this script ran, or kept by the browser on the way back
    for (const name of ["dragenter", "dragover"]) input.addEventListener(name, () => zone.classList.add("cm-drop-over"));
    for (const name of ["dragleave", "drop"]) input.addEventListener(name, () => zone.classList.remove("cm-drop-over"));
    input.addEventListener("drop", async (event) => {
        const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
        if (!entries.some((entry) => entry.isDirectory)) return; // the browser does plain files by itself
        event.preventDefault();
        const files = (await Promise.all(entries.map(filesOf))).flat();
        choose(input, files.filter(isWanted));
    });
    document.addEventListener("paste", (event) => {
        const files = [...(event.clipboardData?.files ?? [])].filter(isWanted);
        if (files.length) choose(input, files);
    });
}
