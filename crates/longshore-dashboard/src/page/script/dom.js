// The document: elements are made once from templates and changed in place. All text goes through `textContent` or the
// data of a text node, so no text can become an element.

const element = (id) => document.getElementById(id);

// The elements of a part of the page by their `data-b`.
function parts(root) {
    const found = { root };
    for (const each of root.querySelectorAll("[data-b]")) found[each.dataset.b] ??= each;
    return found;
}

let selection = null; // The text that the reader has selected. It is not changed under the reader's hands.
const held = (node) => selection !== null && selection.containsNode(node, true);

function write(node, text) {
    if (node.textContent === text || held(node)) return;
    const only = node.firstChild;
    if (only !== null && only === node.lastChild && only.nodeType === 3) only.data = text;
    else node.textContent = text;
}

// Shows a value, or what a function makes of the server's clock. The latter is shown anew by every tick.
function put(node, value) {
    const ticks = typeof value === "function";
    if (ticks || node.ticks) {
        node.ticks = ticks ? value : null;
        node.classList.toggle("t", ticks);
    }
    write(node, ticks ? value(serverNow()) : String(value ?? ""));
}

const ticking = document.getElementsByClassName("t");
function tick() {
    selection = selected();
    const now = serverNow();
    for (const node of ticking) write(node, node.ticks(now));
}

function selected() {
    const now = document.getSelection();
    return now === null || now.isCollapsed ? null : now;
}

function attribute(node, name, value) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
const path = (node, d) => attribute(node, "d", d || "M0 0");
const mark = (node, name, yes) => {
    if (node.classList.contains(name) !== yes) node.classList.toggle(name, yes);
};
function show(node, yes) {
    if (node.hasAttribute("hidden") === yes) node.toggleAttribute("hidden", !yes); // pictures have no property `hidden`
}

// The shape and the tone of a health.
function shape(node, health) {
    const tone = health === "broken" ? "gave_up" : health;
    if (node.dataset.health === tone) return;
    node.dataset.health = tone;
    node.querySelector("use").setAttribute("href", `#i-${element(`i-${tone}`) ? tone : "other"}`);
}

// Makes the rows of a parent those of the items. A row is kept with its key, and is moved only if it has to be.
const lists = new WeakMap();
function list(parent, items, template, key, update) {
    let rows = lists.get(parent);
    if (!rows) lists.set(parent, (rows = new Map()));
    const keys = items.map(key),
        wanted = new Set(keys);
    for (const [old, row] of rows) {
        if (!wanted.has(old)) {
            row.root.remove();
            rows.delete(old);
        }
    }
    let before = parent.querySelector(":scope > thead");
    items.forEach((item, at) => {
        let row = rows.get(keys[at]);
        if (!row) rows.set(keys[at], (row = parts(element(template).content.firstElementChild.cloneNode(true))));
        const place = before ? before.nextElementSibling : parent.firstElementChild;
        if (row.root !== place) parent.insertBefore(row.root, place);
        before = row.root;
        update(row, item);
    });
}

// Runs what changes the document, and gives the focus back if a row was moved under it.
function keepingFocus(change) {
    const focused = document.activeElement;
    selection = selected();
    change();
    if (focused && focused !== document.activeElement && focused.isConnected)
        focused.focus({ preventScroll: true });
}

// Tiles of a description list: [label, value, more, is it bad].
function tiles(parent, items) {
    list(
        parent,
        items,
        "t-tile",
        ([label]) => label,
        (tile, [label, value, more, bad]) => {
            put(tile.label, label);
            put(tile.value, value);
            put(tile.more, more);
            show(tile.more, more !== undefined && more !== "");
            mark(tile.value, "bad", Boolean(bad));
        },
    );
}

// A sentence about a number, if it is above 0.
function note(node, n, words) {
    show(node, n > 0);
    put(node, n > 0 ? words(n) : "");
}
