//! Puts all mutants of a list, or all patches of a folder, into a copy of the crate, each behind a switch, so that they
//! are compiled once.
//!
//! ```text
//! weave LIST LEFT_OUT TREE             weaves the mutants of LIST, which `cargo mutants --list --json` prints, into the
//!                                      files of TREE, but for those whose numbers are the lines of LEFT_OUT; prints the
//!                                      numbers of those that it cannot weave
//! weave --patches FILES LEFT_OUT TREE  does the same with patches. The folder FILES/NUMBER has the files that the patch
//!                                      of that number changes, as they are after it
//! weave --blame TREE                   reads what `cargo --message-format json` prints, and prints the numbers of the
//!                                      mutants of TREE that do not compile
//! ```
//!
//! The first mutant of the list has the number 1. `LONGSHORE_MUTANT` in the environment of a test names the one that is
//! switched on. Those in constants, in conditions that bind names, and values of opaque types cannot be switched.

mod patches;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::path::Path;
use std::{env, fs, io, process};

use proc_macro2::{LineColumn, Span, TokenStream};
use quote::{ToTokens, quote};
use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{BinOp, Block, Expr, ExprBinary, ReturnType, Type, UnOp, parse_quote};

/// What a mutant changes, and into what.
struct Mutant {
    number: u64,
    genre: String,
    replacement: String,
}

/// The mutants of one file, by where they begin.
type Places = BTreeMap<(usize, usize), Vec<Mutant>>;

fn mutants(list: &str, left_out: &BTreeSet<u64>) -> BTreeMap<String, Places> {
    let list: Vec<Value> =
        serde_json::from_str(list).expect("the list is one of `cargo mutants --list --json`");
    let mut files: BTreeMap<String, Places> = BTreeMap::new();
    for (number, listed) in (1..).zip(&list).filter(|(number, _)| !left_out.contains(number)) {
        let start = &listed["span"]["start"];
        let at = |name: &str| start[name].as_u64().expect("a span has lines and columns") as usize;
        let (genre, replacement) = (text(listed, "genre"), text(listed, "replacement"));
        let places = files.entry(text(listed, "file")).or_default();
        places.entry((at("line"), at("column"))).or_default().push(Mutant { number, genre, replacement });
    }
    files
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_default().to_owned()
}

/// Weaves mutants into the syntax tree of one file.
struct Weaver {
    places: Places,
    woven: BTreeSet<u64>,
}

impl Weaver {
    /// The mutants of a genre that begin there.
    fn take(&mut self, genre: &str, span: Span) -> Vec<Mutant> {
        let LineColumn { line, column } = span.start();
        let Some(here) = self.places.get_mut(&(line, column + 1)) else { return Vec::new() };
        let (taken, left) = here.drain(..).partition(|mutant| mutant.genre == genre);
        *here = left;
        self.woven.extend(taken.iter().map(|mutant: &Mutant| mutant.number));
        taken
    }

    fn function(&mut self, signature: &mut syn::Signature, block: &mut Block) {
        let Some(first) = block.stmts.first() else { return };
        // The value of an opaque type has one type only.
        let is_opaque =
            matches!(&signature.output, ReturnType::Type(_, given) if matches!(**given, Type::ImplTrait(_)));
        let values = if is_opaque { Vec::new() } else { self.take("FnValue", first.span()) };
        signature.constness = None; // a switch is no constant
        visit_mut::visit_block_mut(self, block);
        for Mutant { number, replacement, .. } in values.into_iter().rev() {
            let value: TokenStream = replacement.parse().expect("a replacement is an expression");
            block.stmts.insert(0, parse_quote!(if crate::mutant::on(#number) { return #value; }));
        }
    }
}

/// A condition that binds names cannot be moved into a block.
fn binds(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, op: BinOp::And(_), right, .. }) => binds(left) || binds(right),
        Expr::Paren(paren) => binds(&paren.expr),
        _ => false,
    }
}

/// Each variant where its mutant is on, and otherwise the original.
fn switch(variants: Vec<(u64, TokenStream)>, original: &impl ToTokens) -> Expr {
    let mut all = TokenStream::new();
    for (number, variant) in variants {
        all.extend(quote!(if crate::mutant::on(#number) { #variant } else));
    }
    parse_quote!((#all { #original }))
}

impl VisitMut for Weaver {
    fn visit_item_fn_mut(&mut self, function: &mut syn::ItemFn) {
        self.function(&mut function.sig, &mut function.block);
    }

    fn visit_impl_item_fn_mut(&mut self, function: &mut syn::ImplItemFn) {
        self.function(&mut function.sig, &mut function.block);
    }

    fn visit_item_const_mut(&mut self, _: &mut syn::ItemConst) {}

    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}

    fn visit_item_static_mut(&mut self, _: &mut syn::ItemStatic) {}

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        let (genre, mutants) = match expr {
            Expr::Binary(binary) if !binds(&binary.left) && !binds(&binary.right) => {
                ("BinaryOperator", self.take("BinaryOperator", binary.op.span()))
            }
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_) | UnOp::Neg(_)) => {
                ("UnaryOperator", self.take("UnaryOperator", unary.op.span()))
            }
            _ => ("", Vec::new()),
        };
        let fields: Vec<(usize, u64)> = match expr {
            Expr::Struct(literal) if literal.rest.is_some() => (0..)
                .zip(&literal.fields)
                .flat_map(|(at, field)| {
                    self.take("StructField", field.span()).into_iter().map(move |m| (at, m.number))
                })
                .collect(),
            _ => Vec::new(),
        };
        visit_mut::visit_expr_mut(self, expr);
        let variants: Vec<(u64, TokenStream)> = match expr {
            Expr::Binary(binary) if genre == "BinaryOperator" => mutants
                .into_iter()
                .map(|mutant| {
                    let op: BinOp = syn::parse_str(&mutant.replacement).expect("it is an operator");
                    (mutant.number, ExprBinary { op, ..binary.clone() }.into_token_stream())
                })
                .collect(),
            Expr::Unary(unary) if genre == "UnaryOperator" => {
                mutants.into_iter().map(|mutant| (mutant.number, unary.expr.to_token_stream())).collect()
            }
            Expr::Struct(literal) => fields
                .into_iter()
                .map(|(at, number)| {
                    let mut without = literal.clone();
                    let kept = literal.fields.iter().enumerate().filter(|(place, _)| *place != at);
                    without.fields = kept.map(|(_, field)| field.clone()).collect();
                    if !without.fields.is_empty() {
                        without.fields.push_punct(Default::default());
                    }
                    (number, without.into_token_stream())
                })
                .collect(),
            _ => Vec::new(),
        };
        if !variants.is_empty() {
            *expr = switch(variants, expr);
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut syn::Arm) {
        let deleted = self.take("MatchArm", arm.span());
        let guard = arm.guard.as_ref().filter(|(_, guard)| !binds(guard));
        let values = guard.map(|(_, guard)| guard.span()).map(|span| self.take("MatchArmGuard", span));
        visit_mut::visit_arm_mut(self, arm);
        if let (Some((_, guard)), Some(values)) = (&mut arm.guard, values.filter(|values| !values.is_empty()))
        {
            let value = |mutant: Mutant| (mutant.number, mutant.replacement.parse().expect("it is a value"));
            **guard = switch(values.into_iter().map(value).collect(), guard);
        }
        for Mutant { number, .. } in deleted {
            arm.guard = Some((Default::default(), Box::new(parse_quote!(!crate::mutant::on(#number)))));
        }
    }
}

const SWITCH: &str = r#"//! Which mutant is on.

use std::sync::atomic::{AtomicU64, Ordering};

static ACTIVE: AtomicU64 = AtomicU64::new(u64::MAX);

#[cold]
fn read() -> u64 {
    let active = std::env::var("LONGSHORE_MUTANT").map_or(0, |number| number.parse().expect("it is a number"));
    ACTIVE.store(active, Ordering::Relaxed);
    active
}

pub(crate) fn on(number: u64) -> bool {
    let active = ACTIVE.load(Ordering::Relaxed);
    (if active == u64::MAX { read() } else { active }) == number
}
"#;

fn weave(files: BTreeMap<String, Places>, tree: &Path) -> io::Result<()> {
    for (file, places) in files {
        let path = tree.join(&file);
        if !path.exists() {
            places.values().flatten().for_each(|mutant| println!("{}", mutant.number));
            continue;
        }
        let mut syntax = syn::parse_file(&fs::read_to_string(&path)?).expect("it compiles");
        let mut weaver = Weaver { places, woven: BTreeSet::new() };
        weaver.visit_file_mut(&mut syntax);
        for mutant in weaver.places.values().flatten() {
            println!("{}", mutant.number);
        }
        fs::write(&path, syntax.into_token_stream().to_string())?;
    }
    add_switch(tree)
}

/// Adds the module that says which mutant is on.
fn add_switch(tree: &Path) -> io::Result<()> {
    let lib = tree.join("src/lib.rs");
    let text = fs::read_to_string(&lib)?;
    if !text.contains("mod mutant;") {
        fs::write(lib, text.replacen("\nmod base;", "\nmod mutant;\nmod base;", 1))?;
    }
    fs::write(tree.join("src/mutant.rs"), SWITCH)
}

/// The blocks of a woven file in which a mutant is on: from where to where, and its number.
fn blocks(text: &str) -> Vec<(usize, usize, u64)> {
    const ON: &str = "crate :: mutant :: on (";
    let mut found = Vec::new();
    for (at, _) in text.match_indices(ON) {
        let rest = &text[at + ON.len()..];
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let Some(open) = rest.find('{') else { continue };
        let mut depth = 0;
        let close = rest[open..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let number = digits.parse().expect("a switch has a number");
        found.push((at, at + ON.len() + open + close.map_or(0, |(close, _)| close), number));
    }
    found
}

/// The mutants in whose blocks the compiler finds errors.
fn blame(tree: &Path) -> BTreeSet<u64> {
    let mut blamed = BTreeSet::new();
    let mut texts: BTreeMap<String, Vec<(usize, usize, u64)>> = BTreeMap::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message["message"]["level"] != "error" {
            continue;
        }
        let mut any = false;
        let spans = message["message"]["spans"].as_array().cloned().unwrap_or_default();
        for span in spans {
            let file = text(&span, "file_name");
            let blocks = texts
                .entry(file.clone())
                .or_insert_with(|| blocks(&fs::read_to_string(tree.join(&file)).unwrap_or_default()));
            let offset = |name: &str| span[name].as_u64().unwrap_or_default() as usize;
            let (start, end) = (offset("byte_start"), offset("byte_end"));
            let around = blocks.iter().filter(|(from, to, _)| *from <= start && end <= *to + 1);
            if let Some((_, _, number)) = around.max_by_key(|(from, _, _)| *from) {
                any |= blamed.insert(*number) || span["is_primary"] == true;
            }
        }
        if !any {
            eprintln!("{}", message["message"]["rendered"].as_str().unwrap_or_default());
        }
    }
    blamed
}

/// The numbers in the lines of a file.
fn numbers(file: &str) -> io::Result<BTreeSet<u64>> {
    Ok(fs::read_to_string(file)?.lines().filter_map(|line| line.parse().ok()).collect())
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--blame", tree] => {
            blame(Path::new(tree)).iter().for_each(|number| println!("{number}"));
            Ok(())
        }
        ["--patches", files, left_out, tree] => {
            let tree = Path::new(tree);
            let unwoven = patches::weave(Path::new(files), &numbers(left_out)?, tree)?;
            unwoven.iter().for_each(|number| println!("{number}"));
            add_switch(tree)
        }
        [list, left_out, tree] => {
            weave(mutants(&fs::read_to_string(list)?, &numbers(left_out)?), Path::new(tree))
        }
        _ => {
            eprintln!("weave LIST LEFT_OUT TREE | weave --patches FILES LEFT_OUT TREE | weave --blame TREE");
            process::exit(2);
        }
    }
}
