//! Reports: the page with its data, as a file.

use std::fs;
use std::path::PathBuf;

use longshore::App;
use longshore_dashboard::Dashboard;
use serde_json::Value;

use crate::support::{get, sick, well};

/// A path of this test alone. The file is removed when this is dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("longshore-{}-{name}.html", std::process::id())))
    }

    fn data(&self) -> Value {
        let document = fs::read_to_string(&self.0).expect("the report is there");
        let (_, after) = document.split_once("id=\"data\">").expect("the element of the data");
        serde_json::from_str(after.split_once("</script>").expect("its end").0).expect("it is JSON")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_report_holds_the_overview_and_every_function() {
    let file = File::new("whole");
    let app = App::deployed("reports");
    let _functions = (well(&app, "double"), sick(&app, "fetch", "the registry is down"));
    let dashboard = Dashboard::of(&app);
    dashboard.save_report(&file.0).expect("it can be written");
    let data = file.data();
    assert_eq!(data["overview"]["app"]["name"], "reports");
    assert_eq!(data["functions"]["fetch"]["function"]["causes"][0]["message"], "the registry is down");
    assert_eq!(data["functions"]["double"]["function"]["health"], "serving");
    assert_eq!(data["functions_omitted"], 0);
    assert!(!file.0.with_extension("html.partial").exists());
}

#[test]
fn a_report_opens_without_a_server_and_may_not_call_one() {
    let app = App::deployed("reports");
    let dashboard = Dashboard::of(&app);
    let answer = get(&dashboard, "/report");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"longshore.html\"");
    let policy = answer.text().split_once("content-security-policy\" content=\"").expect("it has a policy").1;
    let policy = policy.split('"').next().expect("its end");
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'none'"), "{policy}");
    assert!(!get(&dashboard, "/").text().contains("http-equiv"), "the page has it as a header");
}

#[test]
fn a_report_is_saved_when_its_guard_is_dropped_by_a_panic() {
    let file = File::new("panic");
    let app = App::deployed("reports");
    let dashboard = Dashboard::of(&app);
    let path = file.0.clone();
    let fails = std::thread::spawn(move || {
        let f = well(&app, "double");
        let _report = dashboard.report_on_drop(path);
        f.run(vec![1, 2]).expect("it cannot fail");
        panic!("the run ends here");
    });
    fails.join().expect_err("it panics");
    assert_eq!(file.data()["functions"]["double"]["function"]["totals"]["ok"], 2);
}

#[test]
fn a_report_of_a_short_run_is_of_its_end() {
    let file = File::new("short");
    let app = App::deployed("reports");
    let report = Dashboard::of(&app).report_on_drop(&file.0);
    let f = well(&app, "double");
    f.run(vec![1, 2, 3]).expect("it cannot fail");
    drop(f);
    assert!(app.shutdown_blocking().is_clean());
    drop(report);
    let data = file.data();
    assert_eq!(data["overview"]["dashboard"]["app_gone"], true);
    let double = &data["functions"]["double"];
    assert_eq!((&double["ended"], &double["function"]["totals"]["ok"]), (&true.into(), &3.into()));
    assert_eq!(double["function"]["report"]["containers"][0]["fate"], "exited");
}

#[test]
fn a_report_that_cannot_be_written_leaves_nothing_behind() {
    let app = App::deployed("reports");
    let dashboard = Dashboard::of(&app);
    let directory = std::env::temp_dir().join(format!("longshore-{}-directory", std::process::id()));
    fs::create_dir_all(directory.join("inside")).expect("it can be made");
    dashboard.save_report(&directory).expect_err("it is a directory with a file in it");
    assert!(!directory.with_extension("partial").exists());
    dashboard
        .save_report(directory.join("absent").join("report.html"))
        .expect_err("there is no such directory");
    fs::remove_dir_all(directory).expect("it can be removed");
}
