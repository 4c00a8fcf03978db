// Pictures can be dropped, pasted or chosen; what was chosen is shown. The file input itself keeps the files.
for (const zone of document.querySelectorAll("[data-dropzone]")) {
    const input = zone.querySelector("input[type=file]");
    const list = zone.querySelector("ul");
    input.hasChangeListener = true; // the admin's own script would write the file's name into the next text field

    input.addEventListener("change", () => {
        for (const picture of list.querySelectorAll("img")) URL.revokeObjectURL(picture.src);
        list.replaceChildren(...[...input.files].map((file) => {
            const item = document.createElement("li");
            const picture = document.createElement("img");
            picture.src = URL.createObjectURL(file);
            picture.alt = "";
            picture.onerror = () => picture.remove(); // a kind that the browser cannot show, such as HEIC
            item.append(picture, file.name);
            return item;
        }));
    });
    for (const name of ["dragenter", "dragover"]) input.addEventListener(name, () => zone.classList.add("cm-drop-over"));
    for (const name of ["dragleave", "drop"]) input.addEventListener(name, () => zone.classList.remove("cm-drop-over"));

    document.addEventListener("paste", (event) => {
        const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
        if (!files.length) return;
        const transfer = new DataTransfer();
        for (const file of files) transfer.items.add(file);
        input.files = transfer.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    });
}
