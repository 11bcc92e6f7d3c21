//! Text of the user's that would like to be more than text.

use longshore::{App, CrashLoopBackoff};
use longshore_dashboard::Dashboard;
use std::time::Duration;

use crate::browser::browse;

/// An element, an end of the script, a placeholder of the document and a mark that turns the direction.
const NAME: &str = "<img src=x onerror=\"hacked=1\"></script><script>hacked=2</script>{{data}}\u{202e}";

/// The same with a NUL and an end of line, which names cannot have.
const EVIL: &str =
    "<img src=x onerror=\"hacked=1\"></script><script>hacked=2</script>{{data}}\u{202e}\u{0}\n&lt;";

#[test]
fn names_and_messages_are_shown_as_the_text_that_they_are() {
    browse(async |browser| {
        let app = App::deployed(NAME);
        let minute = Duration::from_secs(60);
        let policy = CrashLoopBackoff::new().initial(minute).max(minute).reset_after(2 * minute);
        let sick = app.infallible(NAME, |n: &u64| if *n < 9 { panic!("{EVIL}") } else { *n });
        let sick = sick.containers(1).crash_retries(0).restart(policy).describe(|_| EVIL.to_owned());
        let sick = sick.start().expect("valid");
        for n in 1..=2 {
            let map = sick.map(vec![n]).label(NAME).return_exceptions();
            assert_eq!(map.into_iter().filter(Result::is_err).count(), 1);
        }
        assert_eq!(sick.snapshot().totals.poisoned, 2);
        let dashboard = Dashboard::of(&app);
        let page = dashboard.serve("127.0.0.1:0").expect("it serves");
        let report = browser.directory().join("report.html");
        dashboard.save_report(&report).expect("it is saved");
        for address in [page.url(), format!("file://{}", report.display())] {
            browser.open(&address).await;
            browser.until_text("tbody.fn", "<img src=x onerror=").await;
            browser.click("tbody.fn a").await;
            browser.until_text("#h-name", "<img src=x onerror=").await;
            browser
                .until_text(".cause .message", "</script><script>hacked=2</script>{{data}}⟨202E⟩␀\n&lt;")
                .await;
            browser.until_text("table.poisoned", "<img src=x").await;
            browser.until_text("ol.log", "<img src=x").await;
            browser.until_text(".maps.past", "<img src=x").await;
            let elements = "document.querySelectorAll('body img, #app script, .maps script').length";
            assert_eq!(browser.value(elements).await, 0, "{address}");
            assert_eq!(browser.value("typeof hacked").await, "undefined", "{address}");
        }
    });
}
