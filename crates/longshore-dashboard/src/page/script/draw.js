// Pictures, as the `d` of paths that stand in the document: strips, sparklines and bars. A state differs by height as
// well as by colour.

const STRIP = 120;
const LETTERS = { live: ["l", 5], start: ["se", 10], wait: ["b", 14], stop: ["xa", 18] };

// The cells of a row of letters that are in one state, one unit wide each.
function cells(states, word, from = 0, gap = 0) {
    const [letters, top] = LETTERS[word];
    let d = "";
    for (let at = 0; at < states.length;) {
        let end = at + 1;
        if (letters.includes(states[at])) {
            while (gap === 0 && end < states.length && letters.includes(states[end])) end++;
            d += `M${from + at} ${top}H${from + end - gap}V20H${from + at}z`;
        }
        at = end;
    }
    return d;
}

function strip(row, states, crashes) {
    const from = STRIP - states.length;
    path(row.sl, cells(states, "live", from));
    path(row.ss, cells(states, "start", from));
    path(row.sw, cells(states, "wait", from));
    path(row.sx, cells(states, "stop", from));
    path(row.boom, crashes.map(([at]) => `M${from + at} 0h1v20h-1z`).join(""));
}

// A stepped line over `width` steps, with the area below it. The newest value is at the right. Unknown values are gaps.
function area(values, width, most, height) {
    let d = "",
        open = false;
    values.forEach((value, at) => {
        const x = width - values.length + at,
            known = value !== null && most > 0;
        if (known && !open) d += `M${x} ${height}`;
        if (known) d += `V${(height - height * Math.min(1, value / most)).toFixed(1)}H${x + 1}`;
        else if (open) d += `V${height}z`;
        open = known;
    });
    return open ? `${d}V${height}z` : d;
}

// The values without the last, if its step is not over: it would look like a fall.
const finished = (values, end, now) => (end > now && values.length ? [...values.slice(0, -1), null] : values);

const marks = (values, width, height) =>
    values.map((value, at) => (value > 0 ? `M${width - values.length + at} 0h1v${height}h-1z` : "")).join("");

// The means of groups of `size` steps. Groups begin at multiples of `size` of the clock, so that they stay as they are
// while time goes on.
function grouped(values, size, end) {
    const means = [];
    for (let last = values.length, held = end % size || size; last > 0; last -= held, held = size) {
        const group = values.slice(Math.max(0, last - held), last).filter((value) => value !== null);
        means.unshift(group.length ? group.reduce((sum, value) => sum + value, 0) / group.length : null);
    }
    return means;
}

// A bar of segments, as shares of 1, one path each.
function bar(paths, shares) {
    let from = 0;
    paths.forEach((each, at) => {
        const to = Math.min(1000, from + Math.round(1000 * (shares[at] || 0)));
        path(each, to > from ? `M${from} 0H${to}V10H${from}z` : "");
        from = to;
    });
}

// Memory against its limit, with a mark at the peak.
function memoryBar(row, { live_bytes: live, limit_bytes: limit, peak_bytes: peak }) {
    show(row.bar.parentNode, limit !== undefined);
    if (limit === undefined) return;
    bar([row.bar], [Math.min(1, live / limit)]);
    const at = Math.round(985 * Math.min(1, peak / limit));
    path(row.peak, peak > 0 ? `M${at} 0h15v10h-15z` : "");
    mark(row.bar.parentNode, "full", live > 0.9 * limit);
}
const memoryText = ({ live_bytes: live, limit_bytes: limit }) =>
    size(live) + (limit === undefined ? "" : ` of ${size(limit)}`);
