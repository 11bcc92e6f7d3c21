//! [`Tree`]: the files to count, which are those below a directory or the sources of this project's
//! dependencies.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use walkdir::WalkDir;

/// The lock file of this project, which lists the packages that it is built with.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// The packages that this program and longshore name. They are counted with all that they depend on.
const ROOTS: [&str; 9] = [
    "actix",
    "crossbeam-channel",
    "indicatif",
    "parking_lot",
    "proc-macro2",
    "syn",
    "tokio",
    "tracing",
    "walkdir",
];

/// Packages of the lock file that cargo downloads only for some platforms, or that another project may have
/// downloaded. They are never counted, so that the totals are the same on every machine.
const PLATFORM_ONLY: [&str; 21] = [
    "bumpalo",
    "cpufeatures",
    "crunchy",
    "encode_unicode",
    "js-sys",
    "libc",
    "r-efi",
    "redox_syscall",
    "rustversion",
    "wasi",
    "wasm-bindgen",
    "wasm-bindgen-macro",
    "wasm-bindgen-macro-support",
    "wasm-bindgen-shared",
    "web-time",
    "winapi-util",
    "valuable",
    "windows-link",
    "windows-result",
    "windows-sys",
    "zlib-rs",
];

/// One file to count, which is an input of the map.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    /// Its path below the root, with `/` on every platform. It is the name that is printed and hashed.
    pub(crate) name: String,
}

/// The files to be counted.
pub(crate) struct Tree {
    /// In the order of their names.
    pub(crate) files: Vec<SourceFile>,
}

/// The reason why there is nothing to count.
#[derive(Debug)]
pub(crate) enum TreeError {
    /// Neither `CARGO_HOME` nor a home directory is set.
    NoHome,
    /// Cargo's sources cannot be read, or none of this project's dependencies is among them.
    NoRegistry { registry: PathBuf, error: Option<io::Error> },
    /// A directory cannot be walked.
    Walk { path: PathBuf, error: Option<io::Error> },
}

impl Tree {
    /// Every `.rs` file below `directory`, or `directory` itself if it is a file. Links are not followed.
    pub(crate) fn below(directory: &Path) -> Result<Self, TreeError> {
        let mut tree = Self { files: Vec::new() };
        let root = directory.parent().filter(|_| directory.is_file()).unwrap_or(directory);
        tree.add(root, directory)?;
        Ok(tree)
    }

    /// The sources of this project's dependencies, where cargo has put them for the build.
    pub(crate) fn of_dependencies() -> Result<Self, TreeError> {
        let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo = cargo.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
        let registry = cargo.ok_or(TreeError::NoHome)?.join("registry").join("src");
        let listed = fs::read_dir(&registry).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        // There is a root for each registry, and for each name that versions of cargo have given it.
        let mut roots: Vec<PathBuf> = match listed {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
            Err(error) => return Err(TreeError::NoRegistry { registry, error: Some(error) }),
        };
        roots.sort();
        let mut tree = Self { files: Vec::new() };
        for package in packages() {
            match roots.iter().find(|root| root.join(&package).is_dir()) {
                Some(root) => tree.add(root, &root.join(&package))?,
                // The totals are not the same as on other machines, so the user must know.
                None => eprintln!("count_rust: {package} is not in cargo's registry, and is not counted"),
            }
        }
        if tree.files.is_empty() {
            return Err(TreeError::NoRegistry { registry, error: None });
        }
        Ok(tree)
    }

    fn add(&mut self, root: &Path, directory: &Path) -> Result<(), TreeError> {
        for entry in WalkDir::new(directory).sort_by_file_name() {
            let entry = entry.map_err(|error| TreeError::Walk {
                path: error.path().unwrap_or(directory).to_owned(),
                error: error.into_io_error(),
            })?;
            let path = entry.path();
            if entry.file_type().is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(root).unwrap_or(path);
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                self.files.push(SourceFile { path: path.to_owned(), name: parts.join("/") });
            }
        }
        Ok(())
    }
}

/// A package of the lock file.
struct Package {
    name: &'static str,
    version: &'static str,
    is_of_a_registry: bool,
    /// The names of the packages that it depends on, each with its version if there are several.
    dependencies: Vec<&'static str>,
}

impl Package {
    fn read(entry: &'static str) -> Option<Self> {
        let value = |key: &str| {
            let lines = entry.lines();
            lines
                .into_iter()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        let listed = entry.lines().filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\","));
        Some(Self {
            name: value("name")?,
            version: value("version")?,
            is_of_a_registry: value("source").is_some_and(|source| source.starts_with("registry+")),
            dependencies: listed.collect(),
        })
    }

    /// Whether a dependency, as the lock file lists it, is this package.
    fn is(&self, dependency: &str) -> bool {
        let (name, version) = dependency.split_once(' ').map_or((dependency, None), |(n, v)| (n, Some(v)));
        name == self.name && version.is_none_or(|version| version == self.version)
    }
}

/// The `name-version` of each package that is counted, which is the name of its folder in a registry.
fn packages() -> Vec<String> {
    let all: Vec<Package> = LOCK.split("[[package]]").filter_map(Package::read).collect();
    let mut chosen = vec![false; all.len()];
    let mut open: Vec<&str> = ROOTS.to_vec();
    while let Some(dependency) = open.pop() {
        for (at, package) in all.iter().enumerate().filter(|(_, package)| package.is(dependency)) {
            let is_counted = package.is_of_a_registry && !PLATFORM_ONLY.contains(&package.name);
            if is_counted && !std::mem::replace(&mut chosen[at], true) {
                open.extend(&package.dependencies);
            }
        }
    }
    let counted = all.iter().zip(chosen).filter(|(_, chosen)| *chosen);
    counted.map(|(Package { name, version, .. }, _)| format!("{name}-{version}")).collect()
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome => {
                write!(f, "no directory is named, and neither CARGO_HOME nor a home directory is set")
            }
            Self::NoRegistry { registry, .. } => write!(
                f,
                "no directory is named, and this project's dependencies are not in {}",
                registry.display()
            ),
            Self::Walk { path, .. } => write!(f, "{} cannot be walked", path.display()),
        }
    }
}

impl Error for TreeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoHome => None,
            Self::NoRegistry { error, .. } | Self::Walk { error, .. } => {
                error.as_ref().map(|error| error as _)
            }
        }
    }
}
