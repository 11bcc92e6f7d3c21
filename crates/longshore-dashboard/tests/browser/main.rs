//! The page in a real browser.
//!
//! The tests need `chromedriver` and Chromium, as Debian's packages `chromium` and `chromium-driver` bring
//! them, and the test of accessibility needs axe-core: `checks/browser` installs all of it. Without a driver
//! on the `PATH` the tests are skipped, and say so. With `LONGSHORE_BROWSER=required` they fail then.
//!
//! `LONGSHORE_SCREENSHOTS=DIRECTORY` makes the tests in `screenshots` write the pictures of the README.
//!
//! This is a binary of its own, because an accountant is its allocator: the page shows memory only then.

#![expect(
    clippy::disallowed_methods,
    reason = "a browser is waited for with a bound, and the work of a test takes time"
)]

mod accessible;
mod actions;
mod browser;
mod clock;
mod containers;
mod driver;
mod functions;
mod hostile;
mod keyboard;
mod limits;
mod mounted;
mod outage;
mod report;
mod screenshots;
mod server;
mod steady;
mod tabs;
mod trouble;

#[global_allocator]
static ALLOCATOR: longshore::Accountant = longshore::Accountant::system();
