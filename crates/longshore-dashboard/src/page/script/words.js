// Words and numbers: how the page says things. Nothing here touches the document.

// The healths, worst first: the words of the server, and three that only the page uses (broken, over, draining).
const HEALTHS = [
    "broken",
    "gave_up",
    "exhausted",
    "crash_loop",
    "stuck",
    "crashing",
    "over",
    "starting",
    "draining",
    "serving",
    "ended",
];
const KINDS = {
    panic: "panic",
    enter_panic: "panic in enter",
    enter_error: "error from enter",
    memory_limit: "memory limit",
    enter_timeout: "enter timed out",
    unresponsive: "unresponsive",
    no_thread: "no thread",
    no_account: "no memory account",
    killed: "killed by hand",
};
const OVER_FOR = 600000; // A crash loop that has ended is shown for as long as the charts reach back.

const words = (word) => String(word).replaceAll("_", " ");
const kindOf = (kind) => KINDS[kind] ?? words(kind);
const rankOf = (health) => {
    const at = HEALTHS.indexOf(health);
    return at < 0 ? 5 : at;
};
const many = (n, one, more = one + "s") => `${count(n)} ${n === 1 ? one : more}`;
const rounds = (n) => many(n, "round of crashes", "rounds of crashes");
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
const pad = (n) => String(n).padStart(2, "0");

// Text of the user's: control characters and marks that turn the direction become visible, so that no name and no
// message can pass for something else.
const shown = (text) =>
    String(text ?? "")
        .replace(/[\u0000-\u0009\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
        .replace(
            /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
            (c) => `⟨${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
        );
const oneLine = (text) => shown(text).replaceAll("\n", " ␊ ");

function count(n) {
    if (n === undefined) return "";
    if (n >= 1e7) return n >= 1e10 ? `${(n / 1e9).toFixed(1)} G` : `${(n / 1e6).toFixed(1)} M`;
    return String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function perSecond(rate) {
    return rate === undefined ? "" : `${rate >= 10 || rate === 0 ? count(Math.round(rate)) : rate.toFixed(1)}/s`;
}

// A length of time of `ms`: 23 s, 2 min 05 s, 3 h 12 min, 2 d 4 h.
function span(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${pad(s % 60)} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${pad(Math.floor(s / 60) % 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

const exactly = (ms) => (ms % 60000 ? span(ms) : `${ms / 60000} min`);
// The time that is left is rounded up, so that the last second is "1 s".
const left = (ms) => span(Math.ceil(ms / 1000) * 1000);
const brief = (us) =>
    us < 1000 ? `${us} µs` : us < 1e6 ? `${us / 1000} ms` : us < 6e7 ? `${us / 1e6} s` : `${us / 6e7} min`;

function size(bytes) {
    if (bytes === undefined) return "";
    let at = 0;
    for (; bytes >= 1024 && at < 4; at++) bytes /= 1024;
    const number = at && bytes < 99.95 ? bytes.toFixed(1).replace(".0", "") : Math.round(bytes);
    return `${number} ${["B", "KiB", "MiB", "GiB", "TiB"][at]}`;
}

// The time of day of a moment, on the clock of the viewer's time zone.
function clock(head, ms) {
    const date = new Date(head.started_unix_ms + ms);
    const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
    return head.now_ms - ms < 86400000
        ? time
        : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}

// The time zone of the viewer at a date, as its distance from UTC: UTC+1, UTC-3:30.
function zone(date) {
    const east = -date.getTimezoneOffset(),
        minutes = Math.abs(east);
    if (!east) return "UTC";
    const rest = minutes % 60 ? `:${pad(minutes % 60)}` : "";
    return `UTC${east < 0 ? "-" : "+"}${Math.floor(minutes / 60)}${rest}`;
}

function inputName(name) {
    if (!name) return "";
    if (name.input === undefined) return name.job === undefined ? "a call" : `call ${name.job}`;
    if (name.map !== undefined) return `input ${count(name.input)} of ${oneLine(name.map)}`;
    return `input ${count(name.input)} of ${name.job === undefined ? "a map" : `map ${name.job}`}`;
}

const causeOf = (f) => f.cause ?? f.causes?.[0];
const crashesOf = (by) => Object.entries(by).reduce((sum, [kind, n]) => (kind === "killed" ? sum : sum + n), 0);
// The message of a crash. In that of the memory limit, which is the library's own, numbers of bytes become readable.
const messageOf = ({ kind, message }) =>
    kind === "memory_limit" ? message.replace(/\d{4,} bytes|\d{4,}/g, (n) => size(parseInt(n, 10))) : message;
const placed = (cause) =>
    cause ? `${kindOf(cause.kind)}${cause.location ? ` at ${oneLine(cause.location)}` : ""}` : "";

// A cause in short, in words that do not change with each crash. Only messages without a place tell causes apart.
const inShort = (cause) =>
    cause && !cause.location && ["enter_error", "enter_panic", "no_thread"].includes(cause.kind)
        ? oneLine(cause.message).slice(0, 120)
        : placed(cause);

// The word for a function. It is the server's, except where the page knows more. The server counts crashes over a
// minute; a loop that has ended, and after which nothing has crashed, is over at once.
function healthOf(f, now) {
    if (f.broken) return "broken";
    const ended = f.crash_loop?.ended_ms,
        over = ended !== undefined && now - ended < OVER_FOR;
    if (over && (f.health === "serving" || (f.health === "crashing" && !(causeOf(f)?.last_ms > ended))))
        return "over";
    const held = f.mode !== "running" || f.paused;
    return held && ["serving", "starting"].includes(f.health) ? "draining" : f.health;
}
const wordOf = (health, f) =>
    health === "over"
        ? "serving again"
        : health === "draining"
          ? words(f.paused ? "paused" : f.mode)
          : words(health);

// What is wrong with a function: a sentence that stays the same while it is wrong, and a line that counts.
function trouble(f, head, now) {
    const name = oneLine(f.name),
        cause = inShort(causeOf(f)),
        because = cause && `: ${cause}`;
    const loop = f.crash_loop,
        oldest = f.oldest?.[0] ?? f.oldest,
        health = healthOf(f, now);
    switch (health) {
        case "broken":
            return [`${name} has ended by a fault of longshore`, () => oneLine(f.broken)];
        case "gave_up":
            return [
                `${name} gave up${because}`,
                (at) =>
                    f.gave_up
                        ? `It has taken no inputs since ${clock(head, f.gave_up.at_ms)}, for ${span(at - f.gave_up.at_ms)}`
                        : "It takes no inputs",
            ];
        case "exhausted":
            return [
                `${name} has no container left`,
                () =>
                    `${many(f.containers.abandoned, "thread", "threads")} hang and were left behind, ` +
                    `${many(f.containers.hung, "container hangs", "containers hang")}, ${waitingText(f)}`,
            ];
        case "crash_loop":
            return [
                `${name} is in a crash loop${because}`,
                (at) =>
                    loop
                        ? `${rounds(loop.crashes)} in a row since ${clock(head, loop.since_ms)}, ` +
                          `for ${span(at - loop.since_ms)}, ${nextRestart(loop, at)}`
                        : "",
            ];
        case "stuck":
            return [
                oldest?.container === undefined
                    ? `${name} is stuck`
                    : `${name} is stuck on ${inputName(oldest)} in container ${oldest.container}`,
                (at) =>
                    (oldest?.since_ms === undefined
                        ? ""
                        : `It has executed for ${span(at - oldest.since_ms)}, and `) +
                    waitingText(f),
            ];
        case "crashing":
            return [`${name} is crashing${because}`, () => recently(f)];
        case "over":
            return [
                `${name} serves again after a crash loop${because}`,
                (at) =>
                    `The loop of ${rounds(loop.crashes)} was over at ${clock(head, loop.ended_ms)}, ${span(at - loop.ended_ms)} ago`,
            ];
        case "starting":
            return [
                `${name} is starting`,
                (at) => `No container is live yet, ${span(at - f.started_ms)} after the start`,
            ];
        default:
            return [`${name}: ${wordOf(health, f)}`, () => ""];
    }
}

const waiting = (f) => f.inputs.queued + f.inputs.retry + f.inputs.replay;
const waitingText = (f) => many(waiting(f), "input waits", "inputs wait");
// A container is counted from its start until the function ends. An abandoned thread is none.
const containersOf = ({ live, starting, exiting, backing_off, stopped }) =>
    live + starting + exiting + backing_off + stopped;
const nextRestart = (loop, at) =>
    loop.next_restart_ms === undefined
        ? "restarting now"
        : loop.next_restart_ms <= at
          ? "restarting now"
          : `next restart in ${left(loop.next_restart_ms - at)}`;
const recently = ({ recent }) =>
    `${many(recent.crashes, "crash", "crashes")} in the last ${recent.over_ms === 60000 ? "minute" : span(recent.over_ms)}` +
    (recent.share === undefined ? "" : `, ${percent(recent.share)} of what was executed`);

// The policy in a sentence.
function policyText({ tally }) {
    if (tally.crashes_max !== undefined) {
        return (
            `The function gives up above ${rounds(tally.crashes_max)} in ${exactly(tally.window_ms)}, ` +
            `if the crashes are also more than ${percent(tally.share_max)} of what is executed.`
        );
    }
    return tally.policy === "crash_loop_backoff"
        ? "The function never gives up. The delay grows with each round of crashes in a row."
        : `Policy: ${words(tally.policy)}.`;
}

// What an operator can do, in the order in which to try it. A step is a text, or a list: a text, code, and a text.
function advice(f, health, can) {
    const cause = causeOf(f),
        steps = [],
        where = cause?.location ? oneLine(cause.location) : "the code of the function";
    const reset = can("reset") ? "press Reset" : "call reset() on the function";
    const kill = can("kill") ? "Press Kill beside its container" : "Call kill_container()";
    if (health === "over")
        return ["Nothing has to be done now. Look at the causes below, so that the loop does not come again."];
    if (health === "broken")
        return ["Save this page, and report the fault with it. Restart the program to use the function again."];
    if (health === "stuck") {
        return [
            "Find out what the input waits for: a lock, a remote service, an endless loop. A stack trace of the thread shows it.",
            `${kill} to replace the container. The input is then replayed, and its late answer is refused.`,
        ];
    }
    if (health === "exhausted") {
        return [
            "Find out what the code waits for: a lock, a remote service, an endless loop. A stack trace of its threads shows it.",
            "The function goes on once a thread returns. Code that passes checkpoints, or that is async, can be ended at its timeout.",
        ];
    }
    const limit = f.memory?.limit_bytes;
    switch (cause?.kind) {
        case "unresponsive":
            steps.push(
                `Look at ${cause.executing ? inputName(cause.executing) : "what was executing"}. It did not end at its timeout. ` +
                    "Let its code pass checkpoints, or raise the timeout.",
            );
            break;
        case "enter_timeout":
            steps.push("The code that starts a container takes longer than enter_timeout. Check what it waits for.");
            break;
        case "enter_error":
        case "enter_panic":
            steps.push([
                "Containers fail in ",
                "enter",
                ", the code that starts a container, before they see an input. Check what this code needs: a service, " +
                    "a file, a setting." +
                    // A function that gave up keeps no inputs.
                    (health === "gave_up" ? "" : " Inputs wait. None of them is lost or counts as failed."),
            ]);
            break;
        case "memory_limit":
            steps.push(
                `Look at ${cause.executing ? inputName(cause.executing) : "what was executing"}. It needs more memory than the ` +
                    `limit${limit === undefined ? "" : ` of ${size(limit)}`}. Split it, or raise memory_limit.`,
            );
            break;
        case "no_thread":
            steps.push(
                "The operating system refuses threads. Check its limits for threads, and the memory that is left.",
            );
            break;
        case "no_account":
            steps.push(
                "All memory accounts of the process are in use. Run fewer containers with a memory limit, and look for " +
                    "abandoned threads.",
            );
            break;
        case "panic":
            steps.push(
                `Look at ${where}. An input that keeps crashing containers is poisoned and comes back to its caller.`,
            );
            break;
    }
    if (health === "gave_up") steps.push(`When the cause is fixed, ${reset}. Until then every call fails at once.`);
    else if (health === "crash_loop")
        steps.push(`When the cause is fixed, ${reset} to forget the crashes and restart at once, or wait for the next restart.`);
    else if (health === "crashing" && f.tally.crashes_max !== undefined)
        steps.push("The function goes on. It gives up if both limits above are passed.");
    return steps;
}
