// The page of one function: trouble, causes, containers, inputs and maps.

const functionPage = parts(element("function"));
const CHART = 120; // bars
const SPANS = [["seconds", 1], ["seconds", 5], ["minutes", 12]]; // a series, and its steps in a bar
let chosenSpan = null; // The span of the charts, once the reader has chosen one.

function detail(name, now) {
  const page = functionPage, answer = saved ? saved.functions[name] : state.functions[name];
  const f = answer?.function;
  put(page.name, oneLine(name));
  show(page.body, Boolean(f));
  show(page.health, Boolean(f));
  show(page.missing, !f);
  put(page.missing, state.missing || saved ? "There is no function of this name, or it has been forgotten." : "Waiting for the first answer.");
  for (const action of ["reset", "drain"]) show(page[action], Boolean(f) && !answer.ended && can(action) && !(action === "drain" && f.mode !== "running"));
  put(page.age, f ? (at) => `started ${span(at - f.started_ms)} ago` : "");
  if (!f) return;
  const health = healthOf(f, now), head = { ...state.overview, now_ms: f.now_ms };
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

function troubleCard(page, f, head, health) {
  const ill = rankOf(health) < rankOf("starting");
  show(page.trouble, ill);
  if (!ill) return;
  const loop = f.crash_loop, last = f.crashes?.findLast((crash) => crash.kind !== "killed"), cause = causeOf(f);
  const oldest = f.oldest?.[0], [, ticks] = trouble(f, head, serverNow());
  shape(page.trouble, health);
  put(page.what, {
    broken: "A fault of longshore has ended this function", gave_up: "This function gave up", stuck: "Nothing completes",
    crash_loop: loop ? `Crash loop: ${many(loop.crashes, "crash", "crashes")} in a row` : "Crash loop",
    crashing: "Containers are crashing", over: "A crash loop is over",
  }[health] ?? words(health));
  put(page.since, health === "stuck" && oldest ? (at) => `the oldest execution has lasted ${span(at - oldest.since_ms)}, and ${many(waiting(f), "input waits", "inputs wait")}` : health !== "crash_loop" ? ticks : loop ? (at) => `since ${clock(head, loop.since_ms)}, for ${span(at - loop.since_ms)}` : "");
  const counts = health === "crash_loop" && loop;
  show(page.next, Boolean(counts));
  if (counts) {
    const waits = (at) => loop.next_restart_ms > at;
    put(page.nextLabel, (at) => waits(at) ? "next restart in" : "restarting");
    put(page.nextIn, (at) => waits(at) ? left(loop.next_restart_ms - at) : "now");
  }
  const stuckOn = health === "stuck" && oldest;
  show(page.cause, Boolean(cause || stuckOn || f.gave_up || f.broken));
  put(page.kind, stuckOn ? inputName(oldest) : f.broken ? "" : kindOf(cause?.kind ?? ""));
  put(page.place, !stuckOn && cause?.location ? oneLine(cause.location) : "");
  show(page.copyPlace, !stuckOn && Boolean(cause?.location));
  put(page.message, stuckOn ? "" : shown(f.broken ?? (last ?? cause ? messageOf(last ?? cause) : f.gave_up?.message)));
  put(page.where, stuckOn ? `container ${oldest.container}, generation ${oldest.generation}, attempt ${oldest.attempt}` : last ? (at) => crashWhere(last, at) : "");
  const { tally } = f, limited = tally.crashes_max !== undefined;
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
  list(page.advice, steps.map((step, at) => [at, step]), "t-step", ([at]) => at, (row, [, step]) => put(row.root, step));
}

const crashWhere = (crash, at) => [
  `container ${crash.container}, generation ${crash.generation}`, inputName(crash.executing), crash.attempt && `attempt ${crash.attempt}`,
  crash.kind === "memory_limit" && crash.peak_bytes !== undefined && `used ${size(crash.peak_bytes)} at most`, `${span(at - crash.at_ms)} ago`,
].filter(Boolean).join(", ");

function causeCells(row, cause) {
  put(row.kind, cause.kind ? kindOf(cause.kind) : "");
  put(row.place, cause.location ? oneLine(cause.location) : "");
  put(row.message, shown(cause.message && messageOf(cause)));
  show(row.message, Boolean(cause.message));
}

function causes(page, f, head) {
  show(page.causesSection, f.causes.length > 0);
  list(page.causes, f.causes, "t-cause", (cause) => `${cause.kind} ${cause.location ?? cause.message}`, (row, cause) => {
    put(row.count, count(cause.count));
    causeCells(row, cause);
    put(row.first, clock(head, cause.first_ms));
    put(row.last, (at) => `${span(at - cause.last_ms)} ago`);
    put(row.input, inputName(cause.executing));
  });
  note(page.causesOther, f.causes_other + (f.causes_cut ?? 0), (n) => `${count(n)} more, of further causes.`);
}

function containers(page, f, answer, head) {
  const strips = new Map((answer.strips?.rows ?? []).map((row) => [row.container, row]));
  const accounted = f.rows.some((each) => each.memory);
  show(page.legend, strips.size > 0);
  show(page.memoryHead, accounted);
  list(page.containers, f.rows, "t-container", (each) => each.container, (row, each) => {
    row.root.dataset.state = each.state;
    put(row.id, each.container);
    put(row.generation, ` #${each.generation}`);
    put(row.state, words(each.state));
    put(row.since, (at) => each.until_ms > at ? `for ${left(each.until_ms - at)} more` : `for ${span(at - each.since_ms)}`);
    const drawn = strips.get(each.container);
    strip(row, drawn?.states ?? "", drawn?.crashes ?? []);
    put(row.input, inputName(each.executing));
    put(row.running, each.executing ? (at) => `attempt ${each.executing.attempt}, for ${span(at - each.executing.since_ms)}` : "");
    number(row.crashes, each.crashes);
    put(row.death, each.last_death ? (at) => `${kindOf(each.last_death.kind)}, ${span(at - each.last_death.at_ms)} ago` : "");
    show(row.memoryCell, accounted);
    show(row.memoryFig, Boolean(each.memory));
    if (each.memory) {
      memoryBar(row, each.memory);
      put(row.memory, memoryText(each.memory));
      put(row.most, `peak ${size(each.memory.peak_bytes)}`);
    }
    show(row.kill, !answer.ended && can("kill"));
    row.kill.act ??= [`Kill`, `Kill ${each.container}?`, () => `kill/${each.container}`, row.result, "killed", "it was not alive"];
    attribute(row.kill, "aria-label", row.kill.armed ? `Kill container ${each.container}? Press again` : `Kill container ${each.container}`);
  });
  note(page.rowsOmitted, f.rows_omitted + (f.rows_cut ?? 0), (n) => `${many(n, "further container is", "further containers are")} not shown. Those in trouble are shown first.`);
  const bytes = f.abandoned.reduce((total, each) => total + each.bytes, 0);
  const since = Math.min(...f.abandoned.map((each) => each.since_ms));
  note(page.abandoned, f.containers.abandoned, (n) => (at) => `${many(n, "abandoned thread has", "abandoned threads have")} not returned from the code of the function`
    + (since < Infinity ? `, the oldest for ${span(at - since)}` : "") + (bytes > 0 ? `, and hold ${size(bytes)}` : "") + ".");
}

function inputs(page, f, { series }) {
  const { queued, retry, replay, suspects, executing, next_retry_ms } = f.inputs, { totals } = f;
  tiles(page.inputs, [
    ["executing", count(executing)],
    ["queued", count(queued), f.calls.queued ? many(f.calls.queued, "call") : ""],
    ["to retry", count(retry), next_retry_ms === undefined ? "" : (at) => next_retry_ms > at ? `next in ${left(next_retry_ms - at)}` : "next now"],
    ["to replay", count(replay), suspects ? `${count(suspects)} crashed a container` : ""],
    ["calls open", count(f.calls.open)],
  ]);
  tiles(page.totals, [
    ["accepted", count(totals.accepted)], ["ok", count(totals.ok)], ["failed", count(totals.failed)],
    ["poisoned", count(totals.poisoned), "", totals.poisoned > 0], ["cancelled", count(totals.cancelled)],
    ["given up", count(totals.given_up), "", totals.given_up > 0], ["retried", count(totals.retried)], ["replayed", count(totals.replayed)],
    ["crashes", count(crashesOf(totals.crashes)), Object.entries(totals.crashes).filter(([, n]) => n).map(([kind, n]) => `${count(n)} ${kindOf(kind)}`).join(", "), crashesOf(totals.crashes) > 0],
    ["restarts", count(totals.restarts), totals.recycled ? `${count(totals.recycled)} recycled` : ""],
    ["crash loops", count(totals.crash_loops)], ["late answers", count(totals.late_answers)],
  ]);
  tiles(page.durations, [["an execution", f.executing], ["a call in the queue", f.queueing], ["enter", f.entering]].map(([label, times]) => {
    const within = (share) => {
      let seen = 0;
      for (const { count: n, le_us } of times.buckets) if ((seen += n) >= share * times.count) return le_us === undefined ? "more than 5 min" : brief(le_us);
    };
    return times.count ? [label, `99 % within ${within(0.99)}`, `half within ${within(0.5)}, ${many(times.count, "measured", "measured")}`] : [label, "–", "not measured yet"];
  }));
  charts(page, f, series);
}

function charts(page, f, series) {
  show(page.charts, Boolean(series?.seconds));
  if (!series?.seconds) return;
  const span = chosenSpan ?? (series.seconds.ok.length > 150 ? 1 : 0), [name, step] = SPANS[span], from = series[name] ?? series.seconds;
  for (const button of page.spans.children) attribute(button, "aria-pressed", String(button.dataset.span === String(span)));
  const end = Math.floor(from.end_ms / from.step_ms), second = 1000 / from.step_ms;
  // A second that is not over has no sample yet, and a minute has a part of its samples.
  const over = name === "minutes" ? from.end_ms : 0;
  const group = (values) => grouped(finished((values ?? []).slice(-CHART * step), over, f.now_ms), step, end);
  const each = (values, by) => group(values).map((value) => value === null ? null : value * by);
  const all = [["Completed", each(from.ok, second), each(from.failed, second), perSecond], ["Waiting", group(from.waiting), [], (n) => count(Math.round(n))]];
  if (f.memory && from.bytes) all.push(["Memory", group(from.bytes), [], size]);
  const booms = marks(group(from.crashes), CHART, 7);
  list(page.chartGrid, all, "t-chart", ([label]) => label, (chart, [label, main, failed, say]) => {
    const most = Math.max(0, ...main, ...failed), drawing = chart.ok.parentNode;
    put(chart.label, label);
    const latest = main.findLast((value) => value !== null);
    put(chart.now, latest === undefined ? "" : say(latest));
    put(chart.most, most > 0 ? `at most ${say(most)}` : "");
    attribute(drawing, "viewBox", `0 0 ${CHART} 40`);
    path(chart.ok, area(main, CHART, most, 40));
    path(chart.failed, area(failed, CHART, most, 40));
    path(chart.boom, label === "Completed" ? booms : "");
  });
}

const ended = ({ ok, failed, poisoned, cancelled, given_up }) => ok + failed + poisoned + cancelled + given_up;

function mapRow(row, f, map, over) {
  const { progress } = map, done = ended(progress), total = progress.total ?? (over ? progress.pulled : undefined);
  put(row.name, map.label === undefined ? `map ${map.number}` : oneLine(map.label));
  const whole = total ?? Math.max(done, progress.pulled);
  bar([row.ok, row.failed, row.poisoned, row.cancelled],
    [progress.ok, progress.failed, progress.poisoned, progress.cancelled + progress.given_up].map((n) => n / (whole || 1)));
  const rest = ["failed", "poisoned", "cancelled", "given_up", "replayed", "retried"].filter((word) => progress[word]).map((word) => `${count(progress[word])} ${words(word)}`);
  put(row.counts, [`${count(done)} of ${total === undefined ? `${count(progress.pulled)} so far` : count(total)}`
    + (total ? `, ${Math.floor(100 * done / total)} %` : ""), ...rest].join(" · "));
  if (over) {
    const took = map.ended_ms - map.began_ms;
    put(row.age, (at) => `ended ${span(at - map.ended_ms)} ago, took ${took < 1000 ? `${took} ms` : span(took)}`);
    put(row.rate, took > 0 ? perSecond(1000 * done / took) : "");
    return;
  }
  const average = 1000 * done / Math.max(1, f.now_ms - map.began_ms), key = `${f.name} ${map.number}`;
  const fast = rate(key, f.now_ms, done) ?? average, steady = rate(key, f.now_ms, done, 60000) ?? average;
  const ends = total !== undefined && steady > 0 ? f.now_ms + 1000 * (total - done) / steady : undefined;
  put(row.age, (at) => `began ${span(at - map.began_ms)} ago, window ${count(map.window)}`);
  put(row.rate, (at) => perSecond(fast) + (ends === undefined ? "" : total === done ? "" : `, about ${left(Math.max(1, ends - at))} left`));
}

function maps(page, f) {
  show(page.noMaps, !f.maps.length);
  list(page.maps, f.maps, "t-map", (map) => map.number, (row, map) => mapRow(row, f, map, false));
  note(page.mapsOmitted, f.maps_omitted + (f.maps_cut ?? 0), (n) => `${many(n, "further map is", "further maps are")} open.`);
  show(page.mapsEnded, f.maps_ended.length > 0);
  list(page.mapsEnded, f.maps_ended.toReversed(), "t-map", (map) => map.number, (row, map) => mapRow(row, f, map, true));
}

function poisoned(page, f, head) {
  show(page.poisonedSection, f.poisoned.length > 0);
  list(page.poisoned, f.poisoned.toReversed(), "t-poisoned", (each) => each.number, (row, each) => {
    put(row.input, inputName(each));
    put(row.description, shown(each.description));
    show(row.description, Boolean(each.description));
    causeCells(row, each);
    put(row.attempts, count(each.attempts));
    put(row.when, clock(head, each.at_ms));
  });
  note(page.poisonedOmitted, f.totals.poisoned - f.poisoned.length, (n) => `${many(n, "earlier one is", "earlier ones are")} not shown.`);
}
