// Buttons, keys, the saved file, and the start.

const SURE = 3000; // ms in which an action is pressed a second time

// An action wants two presses: the first arms the button, the second acts.
async function press(button) {
    const [label, question, what, result, done, not] = button.act;
    if (!button.armed) {
        button.armed = setTimeout(() => disarm(button), SURE);
        button.textContent = question;
        mark(button, "armed", true);
        return;
    }
    disarm(button);
    put(result, "…");
    try {
        const answer = await fetch(`${base}api/v1/functions/${encodeURIComponent(viewed())}/${what()}`, {
            method: "POST",
            headers: { "x-longshore": "1" },
            credentials: "same-origin",
            signal: AbortSignal.timeout(PATIENCE),
        });
        const said = answer.ok ? await answer.json() : {};
        put(
            result,
            !answer.ok
                ? `refused: ${answer.status}`
                : said.done
                  ? done
                  : said.pending
                    ? "asked, and not done yet"
                    : not,
        );
    } catch {
        put(result, `${label} failed: no answer`);
    }
    setTimeout(() => put(result, ""), 10000);
    await flying;
    refresh();
}

function disarm(button) {
    clearTimeout(button.armed);
    button.armed = 0;
    button.textContent = button.act[0];
    mark(button, "armed", false);
}

// Saves the report of the server. If the server is lost, the page saves the answers that it has.
async function save() {
    let file;
    try {
        const answer = await fetch(`${base}report`, {
            cache: "no-store",
            credentials: "same-origin",
            signal: AbortSignal.timeout(PATIENCE),
        });
        if (!answer.ok) throw new Error();
        file = await answer.blob();
    } catch {
        if (!state.overview) return;
        const copied = pristine.cloneNode(true);
        copied.querySelector("#data").textContent = JSON.stringify({
            overview: state.overview,
            functions: state.functions,
        }).replaceAll("<", "\\u003c");
        file = new Blob(["<!doctype html>\n", copied.outerHTML], { type: "text/html" });
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    const app = (state.overview?.app.name ?? "").replace(/[^\w.-]+/g, "_").slice(0, 60);
    link.download = `longshore-${app}-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.html`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// The next or the previous of the things that `j` and `k` walk through.
function step(by) {
    const inside = viewed() === null ? overviewPage.root : functionPage.root;
    const stops = [...inside.querySelectorAll(viewed() === null ? "a.row" : "h2")].filter(
        (each) => each.offsetParent !== null,
    );
    const at = stops.indexOf(document.activeElement);
    stops[at < 0 ? (by > 0 ? 0 : stops.length - 1) : Math.max(0, Math.min(stops.length - 1, at + by))]?.focus();
}

const help = element("help");
const KEYS = {
    j: () => step(1),
    k: () => step(-1),
    " ": () => pause(!state.paused),
    "?": () => help.showModal(),
    Enter: () => {
        if (document.activeElement === document.body) overviewPage.root.querySelector("a.row")?.click();
    },
    Escape: () => {
        const armed = document.querySelector(".armed");
        if (armed) disarm(armed);
        else if (viewed() !== null) location.hash = "#/";
    },
};
document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open || !KEYS[event.key]) return;
    const at = event.target,
        typing = at.matches("input");
    if (typing && event.key !== "Escape") return;
    if (typing) return void at.blur();
    if ((event.key === " " && at.matches("button")) || (event.key === "Enter" && at.matches("button, a"))) return;
    if (event.key !== "Enter") event.preventDefault();
    KEYS[event.key]();
});

document.addEventListener("click", ({ target }) => {
    const button = target.closest("button"),
        row = target.closest("tbody.fn");
    if (button?.act) press(button);
    else if (row && !target.closest("a") && !selected()) row.querySelector("a").click();
});
functionPage.reset.act = [
    "Reset",
    "Reset now?",
    () => "reset",
    functionPage.result,
    "reset",
    "reset; it had not given up",
];
functionPage.drain.act = ["Drain", "Drain now?", () => "drain", functionPage.result, "draining", "it is gone"];
functionPage.pause.act = ["Pause", "Pause now?", () => "pause", functionPage.result, "paused", "it ends"];
functionPage.resume.act = ["Resume", "Resume now?", () => "resume", functionPage.result, "resumed", "it was not paused"];
page.pause.addEventListener("click", () => pause(!state.paused));
page.save.addEventListener("click", save);
page.help.addEventListener("click", () => help.showModal());
page.close.addEventListener("click", () => help.close());
functionPage.spans.addEventListener("click", ({ target }) => {
    chosenSpan = target.dataset.span ? Number(target.dataset.span) : chosenSpan;
    keepingFocus(render);
});

let leftPage = null; // The function whose page was left, so that its row gets the focus.
addEventListener("hashchange", async () => {
    const name = viewed();
    log.paused = false;
    state.missing = false;
    keepingFocus(render);
    if (!state.paused) await refresh();
    if (name !== null) element("h-name").focus();
    else [...overviewPage.root.querySelectorAll("a.row")].find((link) => link.hash === leftPage)?.focus();
    leftPage = location.hash;
    scrollTo(0, 0);
});
leftPage = location.hash;

document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden && !state.paused) refresh();
});
setInterval(() => {
    if (!document.hidden) tick();
}, 250);

element("app").hidden = false;
keepingFocus(render);
refresh();
// For tests, and for those who look from the console.
globalThis.longshore = { refresh, pause };
