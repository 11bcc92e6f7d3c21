//! The folders of `src` are layers. Each uses only the folders below it.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, from the lowest to the highest.
const LAYERS: [&str; 11] = [
    "base",
    "memory",
    "contain",
    "values",
    "data",
    "decide",
    "code",
    "engine",
    "api",
    "testkit",
    "simulator",
];

fn rank(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == folder)
}

/// The lines of a file of this layer that name a higher layer. Unit tests and comments are left out.
fn upward<'t>(layer: &str, text: &'t str) -> Vec<&'t str> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_upward = |line: &&str| {
        let named = line.split("crate::").skip(1).filter_map(|path| path.split("::").next());
        named.filter_map(rank).any(|named| Some(named) > rank(layer))
    };
    lines.filter(is_upward).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("it is a folder") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn each_folder_uses_only_those_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let mut edges = Vec::new();
    for path in found {
        let place = path.strip_prefix(&src).expect("it is below");
        let Some(layer) = place.parent().and_then(|folder| folder.iter().next()?.to_str()) else { continue };
        assert!(rank(layer).is_some(), "{layer} is no layer");
        let text = fs::read_to_string(&path).expect("it is a text");
        edges.extend(upward(layer, &text).iter().map(|line| format!("{}: {}", place.display(), line.trim())));
    }
    assert!(edges.is_empty(), "upward:\n{}", edges.join("\n"));
}

#[test]
fn an_upward_edge_is_found() {
    let text = "use crate::data::chunk::Chunk;\n// crate::api\nuse crate::engine::job_buffers::JobBuffers;\n";
    assert_eq!(upward("data", text), ["use crate::engine::job_buffers::JobBuffers;"]);
    assert_eq!(upward("engine", text), [""; 0]);
    assert_eq!(
        upward("base", "fn f() -> crate::memory::LocalCharge {"),
        ["fn f() -> crate::memory::LocalCharge {"]
    );
}
