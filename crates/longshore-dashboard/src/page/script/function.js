// The page of one function, and its containers.

const functionPage = parts(element("function"));

function detail(name, now) {
    const page = functionPage,
        answer = saved ? saved.functions[name] : state.functions[name];
    const f = answer?.function;
    put(page.name, oneLine(name));
    show(page.body, Boolean(f));
    show(page.health, Boolean(f));
    show(page.missing, !f);
    put(
        page.missing,
        state.missing || saved
            ? "There is no function of this name, or it has been forgotten."
            : "Waiting for the first answer.",
    );
    for (const action of ["reset", "drain"])
        show(
            page[action],
            Boolean(f) && !answer.ended && can(action) && !(action === "drain" && f.mode !== "running"),
        );
    put(page.age, f ? (at) => `started ${span(at - f.started_ms)} ago` : "");
    const pauses = Boolean(f) && !answer.ended && can("pause") && f.mode === "running";
    show(page.pause, pauses && !f.paused);
    show(page.resume, pauses && f.paused);
    if (!f) return;
    const health = healthOf(f, now),
        head = { ...state.overview, now_ms: f.now_ms };
    shape(page.health, health);
    put(page.word, wordOf(health, f));
    troubleCard(page, f, head, health);
    causes(page, f, head);
    containers(page, f, answer, head);
    inputs(page, f, answer);
    maps(page, f);
    poisoned(page, f, head);
    renderLog(page, f, head);
}

// How many inputs a container has in flight, where it may have several.
function inFlight(f, row) {
    if (!(f.concurrent_inputs > 1) || row.state !== "live") return "";
    if (row.concurrent_inputs === 1) return `${count(row.in_flight)} in flight, alone:`;
    const text = `${count(row.in_flight)} of ${count(row.concurrent_inputs)} in flight`;
    return row.in_flight > 1 ? `${text}, the oldest:` : row.in_flight ? `${text}:` : text;
}

function containers(page, f, answer, head) {
    const strips = new Map((answer.strips?.rows ?? []).map((row) => [row.container, row]));
    const accounted = f.rows.some((each) => each.memory);
    show(page.legend, strips.size > 0);
    show(page.memoryHead, accounted);
    list(
        page.containers,
        f.rows,
        "t-container",
        (each) => each.container,
        (row, each) => {
            row.root.dataset.state = each.state;
            put(row.id, each.container);
            put(row.generation, ` #${each.generation}`);
            put(row.state, words(each.state));
            put(row.since, (at) =>
                each.until_ms > at ? `for ${left(each.until_ms - at)} more` : `for ${span(at - each.since_ms)}`,
            );
            const drawn = strips.get(each.container);
            strip(row, drawn?.states ?? "", drawn?.crashes ?? []);
            put(row.inFlight, inFlight(f, each));
            put(row.input, inputName(each.executing));
            put(
                row.running,
                each.executing
                    ? (at) => `attempt ${each.executing.attempt}, for ${span(at - each.executing.since_ms)}`
                    : "",
            );
            number(row.crashes, each.crashes);
            put(
                row.death,
                each.last_death
                    ? (at) => `${kindOf(each.last_death.kind)}, ${span(at - each.last_death.at_ms)} ago`
                    : "",
            );
            show(row.memoryCell, accounted);
            show(row.memoryFig, Boolean(each.memory));
            if (each.memory) {
                memoryBar(row, each.memory);
                put(row.memory, memoryText(each.memory));
                put(row.most, `peak ${size(each.memory.peak_bytes)}`);
            }
            show(row.kill, !answer.ended && can("kill"));
            row.kill.act ??= [
                `Kill`,
                `Kill ${each.container}?`,
                () => `kill/${each.container}`,
                row.result,
                "killed",
                "it was not alive",
            ];
            attribute(
                row.kill,
                "title",
                "Ends this container and starts a new one. What it executes is replayed, and this counts as no crash.",
            );
            attribute(
                row.kill,
                "aria-label",
                row.kill.armed
                    ? `Kill container ${each.container}? Press again`
                    : `Kill container ${each.container}`,
            );
        },
    );
    note(
        page.rowsOmitted,
        f.rows_omitted + (f.rows_cut ?? 0),
        (n) =>
            `${many(n, "further container is", "further containers are")} not shown. Those in trouble are shown first.`,
    );
    const bytes = f.abandoned.reduce((total, each) => total + each.bytes, 0);
    const since = Math.min(...f.abandoned.map((each) => each.since_ms));
    note(
        page.abandoned,
        f.containers.abandoned,
        (n) => (at) =>
            `${many(n, "abandoned thread has", "abandoned threads have")} not returned from the code of the function` +
            (since < Infinity ? `, the oldest for ${span(at - since)}` : "") +
            (bytes > 0 ? `, and hold ${size(bytes)}` : "") +
            ".",
    );
}
