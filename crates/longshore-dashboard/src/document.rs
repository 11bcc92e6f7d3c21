//! The document: `page.html` with its style, its script, and the table for browsers without script.
//!
//! There is one document for every view, so that it works under any path. A browser runs only the script and
//! applies only the style whose hashes are in the policy that comes with the document.

use std::fmt::Write as _;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::history::{History, Remembered};
use crate::page::{PAGE, SCRIPT, STYLE};
use crate::text::{base64, cut, html, json_in_html, public_name};

/// The rows of the table.
const ROWS_MAX: usize = 256;

/// The bytes of the table. A row has at most 3 KiB.
const TABLE_MAX: usize = 256 << 10;

/// The bytes of a cause in the table.
const CAUSE_MAX: usize = 200;

/// The document. With data it is a report: the page then shows the data, and asks no server.
pub(crate) fn document(history: &History, data: Option<&str>) -> String {
    let data = data.map(json_in_html).unwrap_or_default();
    let filled = [("style", STYLE), ("script", SCRIPT), ("table", &table(history)), ("data", &data)];
    let document = fill(PAGE, &filled);
    match data.is_empty() {
        true => document,
        // A file comes without headers, so its policy must be within it.
        false => document.replacen("<head>", &format!("<head>{}", meta_policy()), 1),
    }
}

/// Replaces each `{{name}}` of the template. Placeholders within the values are left as they are.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled =
        String::with_capacity(template.len() + values.iter().map(|(_, it)| it.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let named = after.split_once("}}");
        let value = named.and_then(|(name, _)| values.iter().find(|(known, _)| *known == name));
        match (named, value) {
            (Some((_, after)), Some((_, value))) => {
                filled.push_str(value);
                rest = after;
            }
            _ => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// The value of the header `content-security-policy` of the document.
pub(crate) fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| format!("{}; frame-ancestors 'none'", rules("'self'")))
}

fn meta_policy() -> String {
    format!("<meta http-equiv=\"content-security-policy\" content=\"{}\">", rules("'none'"))
}

fn rules(connect: &str) -> String {
    let [script, style] = [SCRIPT, STYLE].map(|text| base64(&Sha256::digest(text.as_bytes())));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src {connect}; \
         img-src data:; base-uri 'none'; form-action 'none'"
    )
}

/// The numbers of the functions as a table, for a browser without script.
fn table(history: &History) -> String {
    let heads =
        ["Function", "Health", "Live", "Waiting", "Ok", "Failed", "Poisoned", "Crashes", "Last cause"];
    let mut table = String::from("<table><caption>Functions</caption><thead><tr>");
    for head in heads {
        write!(table, "<th scope=\"col\">{head}</th>").expect("a string can be written to");
    }
    table.push_str("</tr></thead><tbody>");
    let mut functions: Vec<&Remembered> = history.running.iter().collect();
    functions.sort_by_key(|it| std::cmp::Reverse(it.last.health));
    functions.extend(history.ended.iter().rev());
    let mut omitted = functions.len();
    for function in functions.iter().take(ROWS_MAX) {
        if table.len() > TABLE_MAX {
            break;
        }
        row(&mut table, function);
        omitted -= 1;
    }
    table.push_str("</tbody></table>");
    if omitted > 0 {
        write!(table, "<p>{omitted} more functions are not shown.</p>").expect("a string can be written to");
    }
    table
}

fn row(table: &mut String, function: &Remembered) {
    let last = &function.last;
    let inputs = last.inputs;
    let name = html(&public_name(&last.name));
    let numbers = [
        last.containers.live as u64,
        inputs.queued + inputs.retry + inputs.replay,
        last.totals.ok,
        last.totals.failed,
        last.totals.poisoned,
        last.totals.crashes.crashes(),
    ];
    write!(table, "<tr><th scope=\"row\"><bdi>{name}</bdi></th><td>{}</td>", last.health)
        .expect("a string can be written to");
    for number in numbers {
        write!(table, "<td>{number}</td>").expect("a string can be written to");
    }
    let cause = last.causes.first().map(|cause| {
        let place = cause.location.as_deref().map(|place| format!(" at {place}")).unwrap_or_default();
        html(&cut(&format!("{}{place}: {}", cause.kind, cause.message), CAUSE_MAX))
    });
    write!(table, "<td><bdi>{}</bdi></td></tr>", cause.unwrap_or_default())
        .expect("a string can be written to");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_within_a_value_are_no_placeholders() {
        let filled = fill("a {{x}} {{y}} {{z}} {{", &[("x", "{{y}}"), ("y", "1")]);
        assert_eq!(filled, "a {{y}} 1 {{z}} {{");
    }

    #[test]
    fn the_page_has_each_placeholder_once_and_nothing_from_elsewhere() {
        for name in ["{{style}}", "{{script}}", "{{data}}", "{{table}}", "<head>"] {
            assert_eq!(PAGE.matches(name).count(), 1, "{name}");
        }
        for text in [PAGE, STYLE, SCRIPT] {
            let outside = ["src=", "@import", "url(", "import("].iter().find(|it| text.contains(**it));
            assert_eq!(outside, None);
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"), "the element would end there");
    }
}
