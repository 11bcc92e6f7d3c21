//! The page, as it is written. The module `document` puts its parts together.

/// The document, with the placeholders `{{style}}`, `{{script}}`, `{{data}}` and `{{table}}`.
pub(crate) const PAGE: &str = include_str!("page.html");

/// The style sheet.
pub(crate) const STYLE: &str = include_str!("style.css");

/// The script.
pub(crate) const SCRIPT: &str = include_str!("script.js");
