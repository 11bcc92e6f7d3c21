// The state of the page, the server's clock, and the requests: one at a time, none while the page is hidden or paused,
// and ever fewer while the server does not answer.

const EVERY = 1000,
    SLOWEST = 15000,
    PATIENCE = 10000; // in ms
const data = element("data").textContent.trim();
const saved = data ? JSON.parse(data) : null; // A saved report holds its answers, and asks for nothing.
const pristine = document.documentElement.cloneNode(true);
const base = location.pathname.replace(/\/*$/, "/");
const state = {
    overview: saved?.overview ?? null,
    functions: {},
    missing: false,
    offset: 0,
    uncertain: Infinity,
    frozen: null,
    paused: false,
    pausedAt: 0,
    lost: null,
    why: "",
    delay: EVERY,
    next: 0,
    restarted: false,
};
if (saved) state.frozen = saved.overview.now_ms;

const serverNow = () => state.frozen ?? state.offset + performance.now();
const freeze = () => {
    state.frozen ??= serverNow();
};
const can = (action) => !saved && !state.lost && Boolean(state.overview?.dashboard?.actions?.includes(action));

// The name of the function that the fragment of the address names, or null.
function viewed() {
    const match = /^#\/f\/(.*)$/s.exec(location.hash);
    if (!match) return null;
    try {
        return decodeURIComponent(match[1]);
    } catch {
        return match[1];
    }
}
const addressOf = (name) => `#/f/${encodeURIComponent(name)}`;

async function get(what) {
    const sent = performance.now();
    const answer = await fetch(base + what, {
        cache: "no-store",
        credentials: "same-origin",
        signal: AbortSignal.timeout(PATIENCE),
    });
    const delay = performance.now() - sent;
    if (!answer.ok) throw Object.assign(new Error(`the answer was ${answer.status}`), { status: answer.status });
    const body = await answer.json();
    if (body.now_ms !== undefined) follow(body.now_ms - sent - delay / 2, delay / 2);
    return body;
}

// Sets the clock by an answer, unless an earlier one was more exact and this one agrees with it.
function follow(offset, uncertain) {
    const apart = Math.abs(offset - state.offset);
    if (uncertain <= state.uncertain || apart > uncertain + state.uncertain)
        Object.assign(state, { offset, uncertain });
    else state.uncertain += 0.05; // Clocks drift.
}

let flying = null,
    timer = 0;
function refresh() {
    if (saved) return Promise.resolve();
    clearTimeout(timer);
    return (flying ??= ask().finally(() => {
        flying = null;
        keepingFocus(render);
        if (!state.paused && !document.hidden) timer = setTimeout(refresh, state.delay);
        state.next = Date.now() + state.delay;
    }));
}

async function ask() {
    try {
        const overview = await get("api/v1/overview");
        const before = state.overview;
        if (
            before &&
            (before.process !== overview.process || before.started_unix_ms !== overview.started_unix_ms)
        ) {
            state.restarted = true;
            state.functions = {};
            rates.clear();
        }
        for (let name = viewed(), asked; name !== null && name !== asked; name = viewed()) {
            asked = name;
            try {
                state.functions = { [name]: await get(`api/v1/functions/${encodeURIComponent(name)}`) };
                state.missing = false;
            } catch (error) {
                if (error.status !== 404) throw error;
                state.missing = true;
            }
        }
        Object.assign(state, { overview, lost: null, delay: EVERY });
        if (!state.paused) state.frozen = null;
    } catch (error) {
        state.lost ??= Date.now();
        state.why = error.status
            ? error.message
            : error.name === "TimeoutError"
              ? "the program does not answer"
              : "the program cannot be reached";
        state.delay = Math.min(2 * state.delay, SLOWEST);
        freeze();
    }
}

function pause(yes) {
    if (saved || state.paused === yes) return;
    state.paused = yes;
    state.pausedAt = Date.now();
    clearTimeout(timer);
    if (yes) freeze();
    else {
        if (!state.lost) state.frozen = null;
        refresh();
    }
    keepingFocus(render);
}

// Rates from counters that never decrease: of each, the samples of the last minute, a second apart at least.
const rates = new Map();
function rate(key, at, value, over = 10000) {
    let samples = rates.get(key);
    if (!samples) {
        if (rates.size > 500) rates.clear();
        rates.set(key, (samples = []));
    }
    const last = samples.at(-1);
    if (last && value < last[1]) samples.length = 0;
    if (!samples.length || at - samples.at(-1)[0] >= 900) samples.push([at, value]);
    if (samples.length > 61) samples.shift();
    const first = samples.find(([then]) => at - then <= over);
    return first && at - first[0] >= 900 ? ((value - first[1]) * 1000) / (at - first[0]) : undefined;
}
