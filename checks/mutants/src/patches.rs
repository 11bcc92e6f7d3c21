//! Weaves patches: a function that a patch changes has both bodies, and a switch chooses one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use quote::{ToTokens, quote};
use syn::visit_mut::{self, VisitMut};
use syn::{Block, File, ImplItemFn, ItemFn, TraitItemFn, parse_quote};

/// Hands out the bodies of all functions of a file, in their order, and leaves an empty one in their place.
#[derive(Default)]
struct Bodies(Vec<Block>);

impl Bodies {
    fn of(file: &mut File) -> Vec<Block> {
        let mut bodies = Self::default();
        bodies.visit_file_mut(file);
        bodies.0
    }

    fn take(&mut self, block: &mut Block) {
        self.0.push(std::mem::replace(block, parse_quote!({})));
    }
}

impl VisitMut for Bodies {
    fn visit_item_fn_mut(&mut self, function: &mut ItemFn) {
        self.take(&mut function.block);
    }

    fn visit_impl_item_fn_mut(&mut self, function: &mut ImplItemFn) {
        self.take(&mut function.block);
    }

    fn visit_trait_item_fn_mut(&mut self, function: &mut TraitItemFn) {
        if let Some(block) = &mut function.default {
            self.take(block);
        }
    }
}

/// Puts the bodies back. A function with variants is no constant, because a switch is none.
struct Rebuild(std::vec::IntoIter<(Block, bool)>);

impl Rebuild {
    fn put(&mut self, signature: &mut syn::Signature, block: &mut Block) {
        let (body, is_woven) = self.0.next().expect("there is a body for each function");
        *block = body;
        if is_woven {
            signature.constness = None;
        }
    }
}

impl VisitMut for Rebuild {
    fn visit_item_fn_mut(&mut self, function: &mut ItemFn) {
        self.put(&mut function.sig, &mut function.block);
    }

    fn visit_impl_item_fn_mut(&mut self, function: &mut ImplItemFn) {
        self.put(&mut function.sig, &mut function.block);
    }

    fn visit_trait_item_fn_mut(&mut self, function: &mut TraitItemFn) {
        visit_mut::visit_signature_mut(self, &mut function.sig);
        if let Some(block) = &mut function.default {
            self.put(&mut function.sig, block);
        }
    }
}

/// The patched files below `patched/NUMBER/`, by their path in the tree, with the numbers of their patches.
fn patched_files(patched: &Path, left_out: &BTreeSet<u64>) -> io::Result<BTreeMap<PathBuf, Vec<(u64, PathBuf)>>> {
    let mut files: BTreeMap<PathBuf, Vec<(u64, PathBuf)>> = BTreeMap::new();
    for entry in fs::read_dir(patched)? {
        let root = entry?.path();
        let name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number: u64 = name.parse().expect("a folder is named by the number of its patch");
        if left_out.contains(&number) {
            continue;
        }
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let in_tree = path.strip_prefix(&root).expect("it is below").to_owned();
                    files.entry(in_tree).or_default().push((number, path));
                }
            }
        }
    }
    files.values_mut().for_each(|patches| patches.sort());
    Ok(files)
}

/// Weaves all patches into the tree. Returns the numbers of those that change more than the bodies of functions.
pub(crate) fn weave(patched: &Path, left_out: &BTreeSet<u64>, tree: &Path) -> io::Result<BTreeSet<u64>> {
    let files = patched_files(patched, left_out)?;
    let parse = |path: &Path| -> io::Result<File> {
        Ok(syn::parse_file(&fs::read_to_string(path)?).expect("it is Rust"))
    };
    // A patch is woven in all of its files or in none.
    let mut unwoven = BTreeSet::new();
    for (file, patches) in &files {
        let mut original = parse(&tree.join(file))?;
        let bodies = Bodies::of(&mut original).len();
        let around = original.to_token_stream().to_string();
        for (number, path) in patches {
            let mut variant = parse(path)?;
            let same = Bodies::of(&mut variant).len() == bodies;
            if !same || variant.to_token_stream().to_string() != around {
                unwoven.insert(*number);
            }
        }
    }
    for (file, patches) in files {
        let path = tree.join(file);
        let mut original = parse(&path)?;
        let bodies = Bodies::of(&mut original);
        let texts: Vec<String> = bodies.iter().map(|body| body.to_token_stream().to_string()).collect();
        let mut variants: Vec<Vec<(u64, Block)>> = vec![Vec::new(); bodies.len()];
        for (number, path) in patches.iter().filter(|(number, _)| !unwoven.contains(number)) {
            for (at, body) in Bodies::of(&mut parse(path)?).into_iter().enumerate() {
                if body.to_token_stream().to_string() != texts[at] {
                    variants[at].push((*number, body));
                }
            }
        }
        let woven = bodies.into_iter().zip(variants).map(|(original, variants)| {
            if variants.is_empty() {
                return (original, false);
            }
            let mut all = proc_macro2::TokenStream::new();
            for (number, body) in variants {
                all.extend(quote!(if crate::mutant::on(#number) #body else));
            }
            (parse_quote!({ #all #original }), true)
        });
        let mut rebuild = Rebuild(woven.collect::<Vec<_>>().into_iter());
        rebuild.visit_file_mut(&mut original);
        fs::write(&path, original.into_token_stream().to_string())?;
    }
    Ok(unwoven)
}
