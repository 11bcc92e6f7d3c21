//! Names and messages are the user's text, and may be anything. They stay text in every answer.

use longshore::App;
use longshore_dashboard::Dashboard;
use serde_json::Value;

use crate::support::{Numbers, get, named, overview, path_of, sick};

/// Texts that would break out of a place where they are not escaped.
const HOSTILE: [&str; 14] = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' or 1=1 --",
    "{{script}}{{data}}{{table}}{{style}}",
    "a\"} 1\n# TYPE evil counter\nevil{a=\"",
    "a\\",
    "\r\nset-cookie: evil=1\r\n\r\n",
    "\u{202e}txet eht snrut\u{2066}",
    "\u{1b}[2J\u{7}",
    "\u{2028}\u{2029}\u{feff}",
    "..",
    "api/v1/functions/x/kill/0?token=#%2F%00",
];

/// A function for each text, which has the text as its name and crashes with the text as its message.
fn hostile(app: &App) -> Vec<Numbers> {
    HOSTILE.iter().map(|text| sick(app, text, text)).collect()
}

/// The data in a document.
fn data_of(document: &str) -> Value {
    let (_, after) = document.split_once("id=\"data\">").expect("the element of the data");
    let (data, _) = after.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("it is JSON")
}

/// The tags of a document, with their attributes.
fn tags(document: &str) -> Vec<&str> {
    document.split('<').skip(1).map(|after| after.split('>').next().expect("a tag")).collect()
}

#[test]
fn json_holds_every_text_unchanged_and_every_name_is_an_address() {
    let app = App::deployed("hostile");
    let _functions = hostile(&app);
    let dashboard = Dashboard::of(&app);
    let overview = overview(&dashboard);
    for text in HOSTILE {
        let functions = overview["functions"].as_array().expect("a list");
        let shown =
            functions.iter().find(|it| it["cause"]["message"] == text).expect("the message is unchanged");
        let name = shown["name"].as_str().expect("a name");
        assert!(name == text || (text == ".." && name.starts_with("..#")), "{name}");
        let answer = get(&dashboard, &path_of(name)).json();
        assert_eq!(answer["function"]["name"], name);
        assert_eq!(answer["function"]["crashes"][0]["message"], text);
    }
}

#[test]
fn the_document_and_the_report_have_the_same_tags_whatever_the_texts_are() {
    let (tame, wild) = (App::deployed("tame"), App::deployed("wild"));
    let _tame: Vec<_> = (0..HOSTILE.len()).map(|n| sick(&tame, &format!("f{n}"), "a message")).collect();
    let _wild = hostile(&wild);
    let (tame, wild) = (Dashboard::of(&tame), Dashboard::of(&wild));
    for path in ["/", "/report"] {
        let (tame, wild) = (get(&tame, path), get(&wild, path));
        assert_eq!(tags(tame.text()), tags(wild.text()), "{path}");
        assert!(
            !wild.text().contains(['\u{202e}', '\u{2066}', '\u{1b}', '\0']) || path == "/report",
            "{path}"
        );
    }
    let report = data_of(get(&wild, "/report").text());
    for text in HOSTILE {
        let functions = report["functions"].as_object().expect("functions by name");
        let is_it = |answer: &Value| answer["function"]["crashes"][0]["message"] == text;
        assert!(functions.values().any(is_it), "{text}");
    }
}

#[test]
fn metrics_have_one_line_for_each_value_whatever_the_names_are() {
    let app = App::deployed("hostile");
    let _functions = hostile(&app);
    let dashboard = Dashboard::of(&app);
    let metrics = get(&dashboard, "/metrics");
    let lines = metrics.text().split('\n').filter(|line| line.starts_with("longshore_gave_up{"));
    assert_eq!(lines.count(), HOSTILE.len());
    let strange = metrics
        .text()
        .split('\n')
        .find(|line| !line.is_empty() && !line.starts_with("longshore_") && !line.starts_with("# "));
    assert_eq!(strange, None);
    assert!(!metrics.text().contains(['\r', '\u{1b}', '\u{202e}', '\u{2028}']));
}

#[test]
fn a_long_message_is_cut_and_a_long_label_is_too() {
    let app = App::deployed("hostile");
    let _f = sick(&app, "f", &"<\u{0}".repeat(1 << 19));
    let dashboard = Dashboard::of(&app);
    let message = named(&overview(&dashboard), "f")["cause"]["message"].as_str().map(str::len);
    assert!(message.is_some_and(|length| length <= 1024), "{message:?}");
    for path in ["/", "/api/v1/overview", &path_of("f"), "/metrics", "/healthz", "/report"] {
        assert!(get(&dashboard, path).body.len() <= 1 << 20, "{path}");
    }
}

#[test]
fn the_health_is_text_without_control_characters() {
    let app = App::deployed("hostile");
    let _functions = hostile(&app);
    let dashboard = Dashboard::of(&app);
    let health = get(&dashboard, "/healthz");
    assert_eq!(health.text().lines().count(), HOSTILE.len());
    assert!(health.text().chars().all(|c| c == '\n' || !c.is_control()));
    assert_eq!(health.header("content-type"), "text/plain; charset=utf-8");
}
