// The inputs of a function: counts, charts, durations, maps and poisoned inputs.

const CHART = 120; // bars
const SPANS = [
    ["seconds", 1],
    ["seconds", 5],
    ["minutes", 12],
]; // a series, and its steps in a bar
let chosenSpan = null; // The span of the charts, once the reader has chosen one.

// The average size of the batches of a function.
function batchSize({ size, executed, inputs }) {
    if (!executed) return `of up to ${many(size, "input")}`;
    return `of ${(inputs / executed).toFixed(inputs / executed < 10 ? 1 : 0)} inputs, at most ${count(size)}`;
}

function inputs(page, f, { series }) {
    const { queued, retry, replay, suspects, executing, next_retry_ms } = f.inputs,
        { totals } = f;
    tiles(page.inputs, [
        [
            "executing",
            count(executing),
            f.concurrent_inputs > 1 ? `up to ${count(f.concurrent_inputs)} in each container` : "",
        ],
        ["queued", count(queued), f.calls.queued ? many(f.calls.queued, "call") : ""],
        [
            "to retry",
            count(retry),
            next_retry_ms === undefined
                ? ""
                : (at) => (next_retry_ms > at ? `next in ${left(next_retry_ms - at)}` : "next now"),
        ],
        ["to replay", count(replay), suspects ? `${count(suspects)} crashed a container` : ""],
        [
            "calls open",
            count(f.calls.open),
            f.calls.overloaded ? `${count(f.calls.overloaded)} refused above ${count(f.calls.max)}` : "",
            f.calls.overloaded > 0,
        ],
        ...(f.batches ? [["batches", count(f.batches.executed), batchSize(f.batches)]] : []),
    ]);
    tiles(page.totals, [
        ["accepted", count(totals.accepted)],
        ["ok", count(totals.ok)],
        ["failed", count(totals.failed)],
        ["poisoned", count(totals.poisoned), "", totals.poisoned > 0],
        ["cancelled", count(totals.cancelled)],
        ["given up", count(totals.given_up), "", totals.given_up > 0],
        ["retried", count(totals.retried)],
        ["timed out", count(totals.timed_out), "", totals.timed_out > 0],
        ["past deadline", count(totals.past_deadline), "", totals.past_deadline > 0],
        ["replayed", count(totals.replayed)],
        [
            "crashes",
            count(crashesOf(totals.crashes)),
            Object.entries(totals.crashes)
                .filter(([, n]) => n)
                .map(([kind, n]) => `${count(n)} ${kindOf(kind)}`)
                .join(", "),
            crashesOf(totals.crashes) > 0,
        ],
        ["restarts", count(totals.restarts), totals.recycled ? `${count(totals.recycled)} recycled` : ""],
        ["crash loops", count(totals.crash_loops)],
        ["late answers", count(totals.late_answers)],
    ]);
    tiles(
        page.durations,
        [
            ["an execution", f.executing],
            ["a call in the queue", f.queueing],
            ["enter", f.entering],
        ].map(([label, times]) => {
            const within = (share) => {
                let seen = 0;
                for (const { count: n, le_us } of times.buckets)
                    if ((seen += n) >= share * times.count)
                        return le_us === undefined ? "more than 5 min" : brief(le_us);
            };
            return times.count
                ? [
                      label,
                      `99 % within ${within(0.99)}`,
                      `half within ${within(0.5)}, ${many(times.count, "measured", "measured")}`,
                  ]
                : [label, "–", "not measured yet"];
        }),
    );
    charts(page, f, series);
}

function charts(page, f, series) {
    show(page.charts, Boolean(series?.seconds));
    if (!series?.seconds) return;
    const span = chosenSpan ?? (series.seconds.ok.length > 150 ? 1 : 0),
        [name, step] = SPANS[span],
        from = series[name] ?? series.seconds;
    for (const button of page.spans.children)
        attribute(button, "aria-pressed", String(button.dataset.span === String(span)));
    const end = Math.floor(from.end_ms / from.step_ms),
        second = 1000 / from.step_ms;
    // A second that is not over has no sample yet, and a minute has a part of its samples.
    const over = name === "minutes" ? from.end_ms : 0;
    const group = (values) => grouped(finished((values ?? []).slice(-CHART * step), over, f.now_ms), step, end);
    const each = (values, by) => group(values).map((value) => (value === null ? null : value * by));
    const all = [
        ["Completed", each(from.ok, second), each(from.failed, second), perSecond],
        ["Waiting", group(from.waiting), [], (n) => count(Math.round(n))],
    ];
    if (f.memory && from.bytes) all.push(["Memory", group(from.bytes), [], size]);
    const booms = marks(group(from.crashes), CHART, 7);
    list(
        page.chartGrid,
        all,
        "t-chart",
        ([label]) => label,
        (chart, [label, main, failed, say]) => {
            const most = Math.max(0, ...main, ...failed),
                drawing = chart.ok.parentNode;
            put(chart.label, label);
            const latest = main.findLast((value) => value !== null);
            put(chart.now, latest === undefined ? "" : say(latest));
            put(chart.most, most > 0 ? `at most ${say(most)}` : "");
            attribute(drawing, "viewBox", `0 0 ${CHART} 40`);
            path(chart.ok, area(main, CHART, most, 40));
            path(chart.failed, area(failed, CHART, most, 40));
            path(chart.boom, label === "Completed" ? booms : "");
        },
    );
}

const ended = ({ ok, failed, poisoned, cancelled, given_up }) => ok + failed + poisoned + cancelled + given_up;

function mapRow(row, f, map, over) {
    const { progress } = map,
        done = ended(progress),
        total = progress.total ?? (over ? progress.pulled : undefined);
    put(row.name, map.label === undefined ? `map ${map.number}` : oneLine(map.label));
    const whole = total ?? Math.max(done, progress.pulled);
    bar(
        [row.ok, row.failed, row.poisoned, row.cancelled],
        [progress.ok, progress.failed, progress.poisoned, progress.cancelled + progress.given_up].map(
            (n) => n / (whole || 1),
        ),
    );
    const rest = ["failed", "poisoned", "cancelled", "given_up", "replayed", "retried"]
        .filter((word) => progress[word])
        .map((word) => `${count(progress[word])} ${words(word)}`);
    put(
        row.counts,
        [
            `${count(done)} of ${total === undefined ? `${count(progress.pulled)} so far` : count(total)}` +
                (total ? `, ${Math.floor((100 * done) / total)} %` : ""),
            ...rest,
        ].join(" · "),
    );
    if (over) {
        const took = map.ended_ms - map.began_ms;
        put(
            row.age,
            (at) => `ended ${span(at - map.ended_ms)} ago, took ${took < 1000 ? `${took} ms` : span(took)}`,
        );
        put(row.rate, took > 0 ? perSecond((1000 * done) / took) : "");
        return;
    }
    const average = (1000 * done) / Math.max(1, f.now_ms - map.began_ms),
        key = `${f.name} ${map.number}`;
    const fast = rate(key, f.now_ms, done) ?? average,
        steady = rate(key, f.now_ms, done, 60000) ?? average;
    const ends = total !== undefined && steady > 0 ? f.now_ms + (1000 * (total - done)) / steady : undefined;
    put(row.age, (at) => `began ${span(at - map.began_ms)} ago, window ${count(map.window)}`);
    put(
        row.rate,
        (at) =>
            perSecond(fast) +
            (ends === undefined ? "" : total === done ? "" : `, about ${left(Math.max(1, ends - at))} left`),
    );
}

function maps(page, f) {
    show(page.noMaps, !f.maps.length);
    list(
        page.maps,
        f.maps,
        "t-map",
        (map) => map.number,
        (row, map) => mapRow(row, f, map, false),
    );
    note(
        page.mapsOmitted,
        f.maps_omitted + (f.maps_cut ?? 0),
        (n) => `${many(n, "further map is", "further maps are")} open.`,
    );
    show(page.mapsEnded, f.maps_ended.length > 0);
    list(
        page.mapsEnded,
        f.maps_ended.toReversed(),
        "t-map",
        (map) => map.number,
        (row, map) => mapRow(row, f, map, true),
    );
}

function poisoned(page, f, head) {
    show(page.poisonedSection, f.poisoned.length > 0);
    list(
        page.poisoned,
        f.poisoned.toReversed(),
        "t-poisoned",
        (each) => each.number,
        (row, each) => {
            put(row.input, inputName(each));
            put(row.description, shown(each.description));
            show(row.description, Boolean(each.description));
            causeCells(row, each);
            put(row.attempts, count(each.attempts));
            put(row.when, clock(head, each.at_ms));
        },
    );
    note(
        page.poisonedOmitted,
        f.totals.poisoned - f.poisoned.length,
        (n) => `${many(n, "earlier one is", "earlier ones are")} not shown.`,
    );
}
