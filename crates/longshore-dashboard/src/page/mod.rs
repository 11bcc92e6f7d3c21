//! The page, as it is written: one document, one style sheet, and a script in several files. There is no
//! build step. The module `document` puts the files together.

/// The document, with the placeholders `{{style}}`, `{{script}}`, `{{data}}` and `{{table}}`.
pub(crate) const PAGE: &str = include_str!("page.html");

/// The style sheet.
pub(crate) const STYLE: &str = include_str!("style.css");

/// The script. The files share one scope. The last file starts the page.
pub(crate) const SCRIPT: &str = concat!(
    include_str!("script/words.js"),
    include_str!("script/dom.js"),
    include_str!("script/draw.js"),
    include_str!("script/poll.js"),
    include_str!("script/overview.js"),
    include_str!("script/function.js"),
    include_str!("script/trouble.js"),
    include_str!("script/inputs.js"),
    include_str!("script/log.js"),
    include_str!("script/start.js"),
);
