// The log of a function, newest line first: a filter, a pause and a copy as text.

const log = { paused: false, lines: [] };

function logText(line, f, head) {
    const crash = () => f.crashes.find((each) => each.number === line.number);
    const who = (each) => `container ${each.container}#${each.generation}`;
    switch (line.what) {
        case "crashed": {
            const each = crash();
            if (!each) return "a container crashed (the details are no longer kept)";
            const input = each.executing
                ? ` on ${inputName(each.executing)}${each.attempt ? `, attempt ${each.attempt}` : ""}`
                : "";
            return `${who(each)} crashed${input}: ${placed(each)}: ${oneLine(messageOf(each))}`;
        }
        case "killed":
            return crash() ? `${who(crash())} was killed by hand` : "a container was killed by hand";
        case "poisoned": {
            const each = f.poisoned.find((one) => one.number === line.number);
            return each
                ? `${inputName(each)} is poisoned after ${many(each.attempts, "execution")}` +
                      (each.description ? `: ${oneLine(each.description)}` : "")
                : "an input is poisoned";
        }
        case "crash_loop":
            return `crash loop: ${rounds(line.crashes)} in a row, next restart at ${clock(head, line.next_restart_ms)}`;
        case "recovered":
            return `the crash loop is over, after ${rounds(line.crashes)} in a row`;
        case "exit_timed_out":
            return `container ${line.container} was left behind in exit`;
        case "hung":
            return `container ${line.container} hangs, and is kept because too many threads are left behind`;
        case "hang_ended":
            return `container ${line.container} has returned`;
        case "exhausted":
            return "the function is exhausted: no container is left that takes inputs, and none can be created";
        case "exhaustion_ended":
            return "the function is no longer exhausted";
        case "overloaded":
            return `overloaded: ${many(line.refused, "call")} refused`;
        case "overload_ended":
            return `no longer overloaded, after ${many(line.refused, "refused call")}`;
        case "gave_up":
            return "the function gave up";
        case "reset":
            return "the crashes were forgotten by hand";
        case "ended":
            return "the function has ended";
        default:
            return words(line.what);
    }
}

function renderLog(page, f, head) {
    if (!log.paused)
        log.lines = f.log.toReversed().map((line) => ({
            seq: line.seq,
            time: clock(head, line.last_ms),
            times: line.count,
            text: logText(line, f, head),
        }));
    const wanted = page.filter.value.trim().toLowerCase();
    const lines = wanted
        ? log.lines.filter(({ text, time }) => `${time} ${text}`.toLowerCase().includes(wanted))
        : log.lines;
    show(page.noLog, !lines.length);
    put(page.noLog, wanted ? "No line matches." : "Nothing has gone wrong since the start.");
    list(
        page.log,
        lines,
        "t-log",
        ({ seq }) => seq,
        (row, line) => {
            put(row.time, line.time);
            put(row.count, line.times > 1 ? `${count(line.times)} ×` : "");
            put(row.text, line.text);
        },
    );
    attribute(page.logPause, "aria-pressed", String(log.paused));
}

// Copies text. Without a secure connection browsers forbid that, and the text is selected in its place.
async function copy(text, node, result) {
    try {
        await navigator.clipboard.writeText(text);
        put(result, "copied");
    } catch {
        document.getSelection().selectAllChildren(node);
        put(result, "selected: copy it with your keyboard");
    }
    setTimeout(() => put(result, ""), 5000);
}

functionPage.filter.addEventListener("input", () => keepingFocus(render));
functionPage.logPause.addEventListener("click", () => {
    log.paused = !log.paused;
    keepingFocus(render);
});
functionPage.logCopy.addEventListener("click", () =>
    copy(
        log.lines.map(({ time, times, text }) => `${time} ${times > 1 ? `${times} × ` : ""}${text}`).join("\n"),
        functionPage.log,
        functionPage.logNote,
    ),
);
functionPage.copyPlace.addEventListener("click", () =>
    copy(functionPage.place.textContent, functionPage.place, functionPage.result),
);
