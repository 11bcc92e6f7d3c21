//! [`Row`]: one answer as a row of the table.

use std::fmt;

use super::goal::Goal;
use super::spread::Spread;

/// The head of the table.
pub(crate) const HEAD: &str = "\
| question | N | ours | rival | its figure | ours / rival [quartiles] | goal | |
|---|--:|--:|---|--:|--:|---|---|";

/// The answer for one measure of one question, against one rival or none.
pub(crate) struct Row {
    pub(crate) question: String,
    pub(crate) inputs: u64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    pub(crate) ours: Spread,
    pub(crate) rival: Option<Against>,
}

/// The rival's side of a row.
pub(crate) struct Against {
    pub(crate) name: String,
    pub(crate) theirs: Spread,
    pub(crate) ratio: Spread,
    /// The median of the differences between our figure and theirs.
    pub(crate) more: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { question, inputs, unit, goal, ours, rival } = self;
        write!(f, "| {question} | {} | {} |", thousands(*inputs), figure(ours.median, unit))?;
        let (ratio, more) = rival.as_ref().map_or((f64::NAN, f64::NAN), |it| (it.ratio.median, it.more));
        match rival {
            None => {
                let Spread { lower, upper, .. } = *ours;
                write!(f, " – | – | [{} – {}] |", figure(lower, unit), figure(upper, unit))?;
            }
            Some(Against { name, theirs, ratio: Spread { lower, median, upper }, .. }) => {
                write!(f, " {name} | {} |", figure(theirs.median, unit))?;
                write!(f, " {} × [{} – {}] |", digits(*median), digits(*lower), digits(*upper))?;
            }
        }
        let met = match goal.is_met(ours.median, ratio, more) {
            None => "",
            Some(true) => "met",
            Some(false) => "**missed**",
        };
        write!(f, " {goal} | {met} |")
    }
}

/// A figure with its unit, or with a larger unit of the same kind.
fn figure(figure: f64, unit: &str) -> String {
    let times = ["ns", "µs", "ms", "s"];
    let Some(mut at) = times.iter().position(|time| *time == unit) else {
        return format!("{} {unit}", digits(figure));
    };
    let mut scaled = figure;
    while scaled.abs() >= 1000.0 && at + 1 < times.len() {
        scaled /= 1000.0;
        at += 1;
    }
    format!("{} {}", digits(scaled), times[at])
}

/// A figure with three significant digits.
fn digits(figure: f64) -> String {
    let places = match figure.abs() {
        at if at >= 100.0 => 0,
        at if at >= 10.0 => 1,
        at if at >= 0.1 || at == 0.0 => 2,
        _ => 4,
    };
    format!("{figure:.places$}")
}

/// A number with its digits in groups of three.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let grouped: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    grouped.join(" ")
}
