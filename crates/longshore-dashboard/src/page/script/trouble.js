// The card that says what is wrong with a function, and the causes of its crashes.

function troubleCard(page, f, head, health) {
    const ill = rankOf(health) < rankOf("starting");
    show(page.trouble, ill);
    if (!ill) return;
    const loop = f.crash_loop,
        last = f.crashes?.findLast((crash) => crash.kind !== "killed"),
        cause = causeOf(f);
    const oldest = f.oldest?.[0];
    shape(page.trouble, health);
    put(
        page.what,
        {
            broken: "A fault of longshore has ended this function",
            gave_up: "This function gave up",
            exhausted: "No container is left",
            stuck: "Nothing completes",
            crash_loop: loop ? `Crash loop: ${rounds(loop.crashes)} in a row` : "Crash loop",
            crashing: "Containers are crashing",
            over: "A crash loop is over",
        }[health] ?? words(health),
    );
    put(page.since, sinceWhen(f, head, health));
    show(page.extent, health !== "broken");
    const all = many(containersOf(f.containers), "container");
    put(page.extent, `${count(f.containers.live)} of ${all} live, ${waitingText(f)}`);
    const counts = health === "crash_loop" && loop;
    show(page.rounds, Boolean(counts));
    show(page.next, Boolean(counts));
    if (counts) {
        const waits = (at) => loop.next_restart_ms > at;
        put(page.nextLabel, (at) => (waits(at) ? "next restart in" : "restarting"));
        put(page.nextIn, (at) => (waits(at) ? left(loop.next_restart_ms - at) : "now"));
    }
    const stuckOn = health === "stuck" && oldest;
    show(page.cause, Boolean(cause || stuckOn || f.gave_up || f.broken));
    put(page.kind, stuckOn ? inputName(oldest) : f.broken ? "" : kindOf(cause?.kind ?? ""));
    put(page.place, !stuckOn && cause?.location ? oneLine(cause.location) : "");
    show(page.copyPlace, !stuckOn && Boolean(cause?.location));
    put(
        page.message,
        stuckOn ? "" : shown(f.broken ?? ((last ?? cause) ? messageOf(last ?? cause) : f.gave_up?.message)),
    );
    put(
        page.where,
        stuckOn
            ? `container ${oldest.container}, generation ${oldest.generation}, attempt ${oldest.attempt}`
            : last
              ? (at) => crashWhere(last, at)
              : "",
    );
    const { tally } = f,
        limited = tally.crashes_max !== undefined;
    show(page.tally, ["crash_loop", "crashing", "gave_up"].includes(health));
    put(page.policy, policyText(f));
    show(page.limits, limited);
    if (limited) {
        put(page.crashes, `${count(tally.crashes)} of ${count(tally.crashes_max)}`);
        bar([page.crashesBar], [tally.crashes / (tally.crashes_max + 1)]);
        put(page.share, `${percent(tally.share)} of ${percent(tally.share_max)}`);
        bar([page.shareBar], [tally.share_max > 0 ? tally.share / tally.share_max : 1]);
    }
    const steps = advice(f, health, can);
    show(page.todo, steps.length > 0);
    list(
        page.advice,
        steps.map((step, at) => [at, step]),
        "t-step",
        ([at]) => at,
        (row, [, step]) => {
            const [before, code, after] = [step].flat();
            put(row.before, before);
            put(row.code, code);
            put(row.after, after);
        },
    );
}

const crashWhere = (crash, at) =>
    [
        `container ${crash.container}, generation ${crash.generation}`,
        inputName(crash.executing),
        crash.attempt && `attempt ${crash.attempt}`,
        crash.kind === "memory_limit" && crash.peak_bytes !== undefined && `used ${size(crash.peak_bytes)} at most`,
        `${span(at - crash.at_ms)} ago`,
    ]
        .filter(Boolean)
        .join(", ");

function causeCells(row, cause) {
    put(row.kind, cause.kind ? kindOf(cause.kind) : "");
    put(row.place, cause.location ? oneLine(cause.location) : "");
    put(row.message, shown(cause.message && messageOf(cause)));
    show(row.message, Boolean(cause.message));
}

function causes(page, f, head) {
    show(page.causesSection, f.causes.length > 0);
    list(
        page.causes,
        f.causes,
        "t-cause",
        (cause) => `${cause.kind} ${cause.location ?? cause.message}`,
        (row, cause) => {
            put(row.count, count(cause.count));
            causeCells(row, cause);
            put(row.first, clock(head, cause.first_ms));
            put(row.last, (at) => `${span(at - cause.last_ms)} ago`);
            put(row.input, inputName(cause.executing));
        },
    );
    note(page.causesOther, f.causes_other + (f.causes_cut ?? 0), (n) => `${count(n)} more, of further causes.`);
}

// Since when a function has been in trouble.
function sinceWhen(f, head, health) {
    const loop = f.crash_loop,
        oldest = f.oldest?.[0];
    if (health === "stuck" && oldest)
        return (at) => `the oldest execution has lasted ${span(at - oldest.since_ms)}`;
    if (health === "crash_loop" && loop)
        return (at) => `since ${clock(head, loop.since_ms)}, for ${span(at - loop.since_ms)}`;
    return trouble(f, head, serverNow())[1];
}
