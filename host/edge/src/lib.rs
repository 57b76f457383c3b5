//! Bundles of Mezze for the edges, what each vendor's own tool deploys, and the component for hosts of one's own. They are built
//! with this crate and carried in it, so whoever has it needs no wasm toolchain.

mod local;
mod manifest;
mod transforms;

use std::borrow::Cow;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

pub use mezze_bounds::Bounded;

pub use local::{fastly_local_server, spin_runtime_config, workerd_config};
pub use manifest::Settings;

/// A file that the build script has made.
macro_rules! generated {
    ($path:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $path))
    };
}

/// The code of a bundle for browsers.
macro_rules! browser_files {
    ($folder:literal) => {
        [
            include_bytes!(concat!(env!("OUT_DIR"), "/", $folder, "/mezze.js")),
            include_bytes!(concat!(env!("OUT_DIR"), "/", $folder, "/serving.js")),
            include_bytes!(concat!(env!("OUT_DIR"), "/", $folder, "/serving.core.wasm")),
        ]
    };
}

/// A host that bundles are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An ES module for browsers and Node, without a server.
    Browser,
    /// Cloudflare Workers with Workers KV.
    Cloudflare,
    /// Any host with a component runtime: the world `serving`, without imports.
    Component,
    /// Fastly Compute with a KV Store.
    Fastly,
    /// Spin with a key-value store.
    Spin,
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Its path in the bundle's folder, with `/`.
    pub path: Cow<'static, str>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is run, not read by people or tools: it counts against the host's limit.
    pub is_code: bool,
}

/// A bundle cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The transforms cannot be linked to the adapter.
    #[error(transparent)]
    Link(#[from] mezze_bounds::BoundError),
    /// Viceroy is needed and could not be run.
    #[error(
        "a bundle for Fastly Compute with transforms is a component, which `viceroy adapt` makes, and {program} cannot be run: {error}"
    )]
    NoViceroy {
        /// What was to be run.
        program: String,
        /// Why it could not.
        error: std::io::Error,
    },
    /// Viceroy failed.
    #[error("`viceroy adapt` failed: {0}")]
    Viceroy(String),
}

/// A bundle's code is beyond what its host takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bundle for {target} has {found} bytes of code{compressed}, the host takes {allowed}", compressed = if *.gzip { " with gzip" } else { "" })]
#[non_exhaustive]
pub struct TooLarge {
    /// The host.
    pub target: &'static str,
    /// Bytes of code.
    pub found: usize,
    /// Bytes that the host takes.
    pub allowed: usize,
    /// Whether both are after compression with gzip.
    pub gzip: bool,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Browser, Self::Cloudflare, Self::Component, Self::Fastly, Self::Spin];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Cloudflare => "cloudflare",
            Self::Component => "component",
            Self::Fastly => "fastly",
            Self::Spin => "spin",
        }
    }

    /// The files of its bundle.
    ///
    /// # Errors
    /// [`BundleError`] where the transforms that it is to carry cannot be linked to it.
    pub fn files(self, settings: &Settings) -> Result<Vec<BundleFile>, BundleError> {
        let code = |path, bytes: &[u8]| BundleFile { path: Cow::Borrowed(path), bytes: bytes.to_vec(), is_code: true };
        let text = |path, text: String| BundleFile { path: Cow::Borrowed(path), bytes: text.into_bytes(), is_code: false };
        let carried = &settings.transforms[..];
        Ok(match self {
            Self::Browser => {
                let [own, glue, module]: [&[u8]; 3] = match (settings.trust, settings.expressions, carried) {
                    (false, false, []) => browser_files!("browser"),
                    (true, false, []) => browser_files!("browser-trust"),
                    (false, true, []) => browser_files!("browser-expressions"),
                    (true, true, []) => browser_files!("browser-trust-expressions"),
                    (false, _, _) => browser_files!("browser-transforms"),
                    (true, _, _) => browser_files!("browser-trust-transforms"),
                };
                let mut files = vec![
                    code("mezze.js", own),
                    code("serving.js", glue),
                    code("serving.core.wasm", module),
                    text("mezze.d.ts", include_str!("../../../edge-deploy/browser/mezze.d.ts").into()),
                    text("demo.html", include_str!("../../../edge-deploy/browser/demo.html").into()),
                    text("package.json", manifest::package_json(settings)),
                ];
                if !carried.is_empty() {
                    files.push(code("carry.js", generated!("browser-transforms/carry.js")));
                    files.extend(transforms::beside(carried, transforms::of_a_page(carried)));
                }
                files
            }
            Self::Cloudflare => {
                let mut files = vec![
                    code("worker.js", include_bytes!("../bundle/cloudflare.js")),
                    code("index.js", generated!("cloudflare/index.js")),
                    code("index_bg.wasm", generated!("cloudflare/index_bg.wasm")),
                    code("carry.js", generated!("cloudflare/carry.js")),
                    text("wrangler.toml", manifest::wrangler_toml(settings)),
                ];
                files.extend(transforms::beside(carried, transforms::of_a_worker(carried)));
                files
            }
            Self::Component => {
                let component = mezze_bounds::link(generated!("serving.wasm"), carried)?;
                vec![code("serving.wasm", &component), text("mezze.wit", include_str!("../../../wit/mezze.wit").into())]
            }
            Self::Fastly => {
                let module = match carried {
                    [] => generated!("fastly.wasm").to_vec(),
                    _ => {
                        let adapter = transforms::adapted(generated!("fastly-transforms.wasm"), settings.viceroy.as_deref())?;
                        mezze_bounds::link(&adapter, carried)?
                    }
                };
                vec![code("mezze.wasm", &module), text("fastly.toml", manifest::fastly_toml(settings))]
            }
            Self::Spin => {
                let component = mezze_bounds::link(generated!("spin.wasm"), carried)?;
                vec![code("mezze.wasm", &component), text("spin.toml", manifest::spin_toml(settings))]
            }
        })
    }

    /// What its host takes, in bytes of code, and whether that is counted after gzip: Cloudflare's 3 MB of a free account,
    /// Fastly's 100 MB, the 50 MB of Akamai's hosted Spin. A browser takes anything,
    /// and so do hosts of one's own.
    const fn code_bytes_max(self) -> (usize, bool) {
        match self {
            Self::Browser | Self::Component => (usize::MAX, true),
            Self::Cloudflare => (3_000_000, true),
            Self::Fastly => (100_000_000, false),
            Self::Spin => (50_000_000, false),
        }
    }
}

/// Bytes of a bundle's code: as it is, and each file with gzip.
pub fn code_bytes(files: &[BundleFile]) -> (usize, usize) {
    let code = files.iter().filter(|file| file.is_code);
    code.fold((0, 0), |(plain, packed), file| (plain + file.bytes.len(), packed + gzip_bytes(&file.bytes)))
}

/// Checks a bundle's code against its host's limit.
///
/// # Errors
/// [`TooLarge`].
pub fn check(target: Target, files: &[BundleFile]) -> Result<(), TooLarge> {
    let (plain, packed) = code_bytes(files);
    let (allowed, gzip) = target.code_bytes_max();
    let found = if gzip { packed } else { plain };
    if found > allowed { Err(TooLarge { target: target.name(), found, allowed, gzip }) } else { Ok(()) }
}

/// How many bytes gzip makes of these.
pub fn gzip_bytes(bytes: &[u8]) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Memory takes all that is written.
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    packed.map_or(usize::MAX, |packed| packed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_as_small_as_promised() {
        let trusting = Settings::default().with_trust();
        for (target, settings, packed_max) in [
            (Target::Browser, Settings::default(), 60_000),
            (Target::Browser, trusting, 90_000),
            (Target::Browser, Settings::default().with_expressions(), 120_000),
            (Target::Cloudflare, Settings::default(), 230_000),
            // Of these the expressions are 53,000, and the standard library and the SDK more than half.
            (Target::Fastly, Settings::default(), 290_000),
            (Target::Component, Settings::default(), 160_000),
            // Its adapter can call transforms, whether it carries some or not: 16,000.
            (Target::Spin, Settings::default(), 255_000),
        ] {
            let files = target.files(&settings).expect("it is made");
            let (plain, packed) = code_bytes(&files);
            assert!(packed <= packed_max, "{} has {plain} bytes, {packed} with gzip", target.name());
            check(target, &files).expect("its host takes it");
        }
    }
}
