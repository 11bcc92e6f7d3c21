// The banner, and the table of all functions, the worst first.

const page = parts(element("app")),
    banner = element("banner"),
    overviewPage = parts(element("overview"));
const STEADY = 10000; // A function keeps its place this long after its trouble is over, so that rows do not jump.
const places = new Map();

function placeOf(f, now) {
    const rank = rankOf(healthOf(f, now)),
        held = places.get(f.name);
    if (!held || rank <= held.rank || now > held.until || now < held.until - STEADY) {
        places.set(f.name, { rank, until: now + STEADY });
        return rank;
    }
    return held.rank;
}

function render() {
    const name = viewed(),
        now = serverNow(),
        head = state.overview,
        body = document.body.classList;
    for (const [word, yes] of [
        ["lost", state.lost],
        ["paused", state.paused],
        ["saved", saved],
        ["gone", head?.dashboard?.app_gone],
        ["detail", name !== null],
    ]) {
        body.toggle(word, Boolean(yes));
    }
    show(overviewPage.root, name === null && head !== null);
    show(functionPage.root, name !== null && head !== null);
    if (places.size > 1000) places.clear();
    const all = head
        ? head.functions
              .map((f) => [placeOf(f, now), f])
              .sort((a, b) => a[0] - b[0])
              .map(([, f]) => f)
        : [];
    header(head);
    say(head, all, now);
    if (!head) return;
    if (name === null) overview(head, all, now);
    else detail(name, now);
}

function header(head) {
    put(page.app, head ? oneLine(head.app.name) : "");
    put(
        page.process,
        head
            ? (now) =>
                  `process ${head.process}, up ${span(now)}` +
                  (state.restarted ? ", restarted while this page was open" : "")
            : "",
    );
    show(page.clock, Boolean(head) && !saved);
    // The clock goes on while the page is paused or lost, so that its reader can tell how old the picture is.
    put(page.clock, head ? () => clockNow(head) : "");
    put(
        page.live,
        saved
            ? `saved ${new Date(head.now_unix_ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" })} ` +
                  zone(new Date(head.now_unix_ms))
            : state.lost
              ? "lost"
              : state.paused
                ? `paused at ${new Date(state.pausedAt).toLocaleTimeString("en-GB")}`
                : "live",
    );
    put(page.pause, state.paused ? "Go on" : "Pause view");
    attribute(page.pause, "aria-pressed", String(state.paused));
    show(page.pause, !saved);
    show(page.save, !saved);
}

// The time of the server's clock, by which the page gives all times, in the viewer's time zone.
function clockNow(head) {
    const now = state.offset + performance.now();
    return `${clock({ ...head, now_ms: now }, now)} ${zone(new Date(head.started_unix_ms + now))}`;
}

function say(head, all, now) {
    const line = element("say"),
        counts = element("tick");
    let health = "serving",
        sentence,
        more;
    const worst = all[0],
        bad = all.filter((f) => rankOf(healthOf(f, now)) < 5);
    if (state.lost) {
        health = "lost";
        sentence = `Lost since ${new Date(state.lost).toLocaleTimeString("en-GB")}: ${state.why}`;
        more = () => `${head ? "The last picture is shown. " : ""}Next try in ${left(state.next - Date.now())}.`;
    } else if (!head) return;
    else if (head.dashboard?.app_gone)
        [health, sentence, more] = ["ended", "The app has ended", "The last picture is shown."];
    else if (!worst) [health, sentence, more] = ["other", "No function is running", ""];
    else if (rankOf(healthOf(worst, now)) < rankOf("serving")) {
        health = healthOf(worst, now);
        const [wrong, ticks] = trouble(worst, head, now);
        const others = bad.filter((f) => f !== worst).map((f) => `${oneLine(f.name)} (${wordFor(f, now)})`);
        const rest = others.length
            ? `Also in trouble: ${others.slice(0, 3).join(", ")}` +
              (others.length > 3 ? ` and ${others.length - 3} more.` : ".")
            : "";
        sentence = wrong;
        more = (at) =>
            [ticks(at), rest]
                .filter(Boolean)
                .map((each) => each.replace(/\.?$/, "."))
                .join(" ");
    } else {
        sentence =
            all.length === 1 ? `${oneLine(worst.name)} is serving` : `All ${all.length} functions are serving`;
        more = `${many(
            all.reduce((sum, f) => sum + f.inputs.executing, 0),
            "input executes",
            "inputs execute",
        )}, ${many(
            all.reduce((sum, f) => sum + waiting(f), 0),
            "waits",
            "wait",
        )}.`;
    }
    shape(banner, health);
    put(line, sentence);
    put(counts, more);
    const sign = bad.length && !state.lost ? "▲ " : "";
    document.title = state.lost
        ? `lost: ${oneLine(head?.app.name ?? "longshore")}`
        : `${sign}${sign ? `${oneLine(worst.name)}: ${wordFor(worst, now)} · ` : ""}${oneLine(head.app.name)}`;
}
const wordFor = (f, now) => wordOf(healthOf(f, now), f);

// A number of a table: quiet if it is 0.
function number(cell, n, tone) {
    put(cell, count(n));
    mark(cell, "nil", n === 0);
    if (tone) mark(cell, tone, n > 0);
}

const sum = (values) => (values ?? []).reduce((total, value) => total + (value ?? 0), 0);

function overview(head, all, now) {
    const page = overviewPage;
    show(page.empty, !all.length && !head.ended?.length);
    show(page.table, all.length > 0);
    show(page.note, all.length > 0);
    note(
        page.omitted,
        head.functions_omitted,
        (n) =>
            `${many(n, "further function is", "further functions are")} not shown. Those in trouble are shown first.`,
    );
    const accounted = all.some((f) => f.memory);
    show(page.memoryHead, accounted);
    list(
        page.table,
        all,
        "t-function",
        (f) => f.name,
        (row, f) => functionRow(row, f, now, accounted),
    );
    show(page.endedSection, Boolean(head.ended?.length));
    list(
        page.ended,
        head.ended ?? [],
        "t-ended",
        (f) => `${f.name} ${f.started_ms}`,
        (row, f) => {
            put(row.name, oneLine(f.name));
            attribute(row.link, "href", addressOf(f.name));
            for (const each of ["ok", "failed", "poisoned"]) put(row[each], count(f.totals[each]));
            put(row.crashes, count(crashesOf(f.totals.crashes)));
            put(row.end, ending(f));
        },
    );
}

// How a function has ended, by its report.
function ending({ report, broken }) {
    if (broken) return "by a fault of longshore";
    if (!report) return "ended";
    const odd = new Map();
    for (const { fate } of report.containers)
        if (fate && fate !== "exited" && fate !== "stopped") odd.set(fate, (odd.get(fate) ?? 0) + 1);
    const said = [...odd].map(([fate, n]) => `${many(n, "container")} ${words(fate)}`);
    if (report.inputs_returned) said.push(`${many(report.inputs_returned, "input")} came back`);
    if (report.inputs_dropped) said.push(`${many(report.inputs_dropped, "input")} ended with their map`);
    if (report.threads_running) said.push(`${many(report.threads_running, "thread")} still running`);
    return said.length ? said.join(", ") : "cleanly";
}

function containersText({ live, starting, exiting, backing_off, stopped, abandoned }) {
    return (
        [
            [live, "live"],
            [starting, "starting"],
            [exiting, "exiting"],
            [backing_off, "backing off"],
            [stopped, "stopped"],
            [abandoned, "abandoned"],
        ]
            .filter(([n]) => n)
            .map(([n, word]) => `${count(n)} ${word}`)
            .join(", ") || "none"
    );
}

function functionRow(row, f, now, accounted) {
    const health = healthOf(f, now),
        spark = f.spark ?? {};
    shape(row.health, health);
    put(row.word, wordOf(health, f));
    put(row.name, oneLine(f.name));
    attribute(row.link, "href", addressOf(f.name));
    const states = f.states ?? "",
        drawing = row.cl.parentNode,
        wide = Math.min(96, Math.max(8, states.length * 9));
    attribute(drawing, "viewBox", `0 0 ${states.length || 1} 20`);
    attribute(drawing, "width", String(wide));
    const gap = wide / (states.length || 1) > 3 ? 0.2 : 0;
    for (const [part, word] of [
        ["cl", "live"],
        ["cs", "start"],
        ["cw", "wait"],
        ["cx", "stop"],
    ])
        path(row[part], cells(states, word, 0, gap));
    put(row.containers, containersText(f.containers));
    const done = finished(spark.ok ?? [], spark.end_ms, f.now_ms);
    path(row.ok, area(done, 60, Math.max(1, ...done), 20));
    path(row.boom, marks(spark.crashes ?? [], 60, 6));
    const ok = f.totals.ok + f.totals.failed;
    const known = done.findLast((value) => value !== null),
        steps = known === undefined ? undefined : (known * 1000) / spark.step_ms;
    put(row.rate, perSecond(rate(f.name, f.now_ms, ok) ?? steps));
    number(row.waiting, waiting(f));
    number(row.failed, sum(spark.failed));
    number(row.crashes, sum(spark.crashes), "bad");
    number(row.poisoned, sum(spark.poisoned), "bad");
    show(row.memoryFig, Boolean(f.memory));
    show(row.memoryCell, accounted);
    if (f.memory) {
        // The limit is each container's, so the bar shows the whole against the sum.
        const { live_bytes, limit_bytes } = f.memory,
            n = containersOf(f.containers);
        const memory = { live_bytes, limit_bytes: limit_bytes && limit_bytes * n, peak_bytes: 0 };
        memoryBar(row, memory);
        put(row.memory, memoryText(memory));
    }
    const cause = causeOf(f),
        ill = rankOf(health) < rankOf("starting") && Boolean(cause);
    show(row.why, ill);
    if (!ill) return;
    put(row.kind, kindOf(cause.kind));
    put(row.place, cause.location ? oneLine(cause.location) : "");
    put(row.message, oneLine(messageOf(cause)));
    put(row.last, (at) => `${count(cause.count)} ×, last ${span(at - cause.last_ms)} ago`);
}
