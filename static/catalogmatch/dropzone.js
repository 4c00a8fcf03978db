// Files can be dropped (also folders), pasted or chosen. The file input holds them, and a list shows them.
const MAX_SHOWN = 60;

function isImage(file) {
    return file.type.startsWith("image/") || /\.(heic|heif|avif)$/i.test(file.name);
}

function setFiles(input, files) {
    const transfer = new DataTransfer();
    for (const file of input.multiple ? files : files.slice(0, 1)) transfer.items.add(file);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
}

// Return all files of a dropped entry, including those in its folders.
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
    const isAccepted = zone.dataset.dropzone === "files" ? () => true : isImage;
    input.hasChangeListener = true; // otherwise the admin's script writes the file name into the next text field

    const showFiles = () => {
        for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
        const items = [...input.files].slice(0, MAX_SHOWN).map((file) => {
            const item = document.createElement("li");
            if (!isImage(file)) {
                item.textContent = file.name;
                return item;
            }
            const image = document.createElement("img");
            image.src = URL.createObjectURL(file);
            image.alt = "";
            image.onerror = () => image.remove(); // browsers cannot show every format, such as HEIC
            item.append(image, file.name);
            return item;
        });
        if (input.files.length > MAX_SHOWN) {
            const more = document.createElement("li");
            more.textContent = `+ ${input.files.length - MAX_SHOWN}`;
            items.push(more);
        }
        list.replaceChildren(...items);
    };
    input.addEventListener("change", showFiles);
    if (input.files.length) showFiles(); // chosen before this script ran, or restored by the browser on going back
    for (const name of ["dragenter", "dragover"]) input.addEventListener(name, () => zone.classList.add("cm-drop-over"));
    for (const name of ["dragleave", "drop"]) input.addEventListener(name, () => zone.classList.remove("cm-drop-over"));
    input.addEventListener("drop", async (event) => {
        const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
        if (!entries.some((entry) => entry.isDirectory)) return; // the browser handles plain files itself
        event.preventDefault();
        const files = (await Promise.all(entries.map(filesOf))).flat();
        setFiles(input, files.filter(isAccepted));
    });
    document.addEventListener("paste", (event) => {
        const files = [...(event.clipboardData?.files ?? [])].filter(isAccepted);
        if (files.length) setFiles(input, files);
    });
}
